"""How fast shuffled batches are read, with and without augmentation on the way to training."""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.bench.augmentations import bare
from skelpipe.bench.setting import Setting
from skelpipe.bench.timing import Row, Way, compare
from skelpipe.bench.viewsets import ViewSet, view_sets
from skelpipe.loader import Loader
from skelpipe.loader.read_ahead import DRAWN_AT_ONCE

__all__ = ["loader_rows", "other_reader", "stream_rows"]

SHUFFLED = 1000  # samples among which a sequential reader shuffles
PREFETCH = 2
LOADED = ("normal", "aimclr")


def stream_rows(setting: Setting) -> list[Callable[[], Row]]:
    """Return the measurement of `Stream`, in host memory, without augmentation."""
    return [partial(_stream, setting)]


def loader_rows(setting: Setting) -> list[Callable[[], Row]]:
    """Return the measurements of `Loader`: what reading costs on top of augmentation."""
    sets = view_sets(setting.dataset.layout, setting.dataset.frames)
    return [partial(_loader, setting, each) for each in sets if each.name in LOADED]


def _stream(setting: Setting) -> Row:
    against, samples = other_reader(setting)
    batches = _forever(setting.stream())

    def one_batch() -> int:
        batch = [next(samples) for _ in range(setting.batch)]
        clips, labels = zip(*batch, strict=True)
        np.stack(clips), np.array(labels)
        return len(batch)

    rates = compare(lambda: len(next(batches).index), one_batch, setting.seconds, setting.device)
    return Row("stream (joint clips, shuffled)", against, *rates, setting.batch)


def _loader(setting: Setting, each: ViewSet) -> Row:
    loader = Loader(setting.stream(), setting.device, each.recipe, prefetch=PREFETCH)
    batches = _forever(loader)
    try:
        ways: tuple[Way, Way] = lambda: len(next(batches)), bare(setting, each.recipe)
        rates = compare(*ways, setting.seconds, setting.device, skip=max(PREFETCH, DRAWN_AT_ONCE) + 1)
    finally:
        loader.close()
    return Row(f"loader {each.name} ({each.views})", "the same views of clips in memory", *rates, setting.batch)


def _forever(source: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from source


def other_reader(setting: Setting) -> tuple[str, Iterator[tuple[np.ndarray, int]]]:
    """Return a plain reader of the same files, what it is and its endless samples (clip, label)."""
    folder, formats = setting.dataset.filesystem.local_path, setting.dataset.card["formats"]
    if "shards" not in formats:
        return "h5py, one row at a time", _rows(
            folder / f"{setting.subset}.h5", setting.dataset.count(setting.subset)
        )
    names = [shard["name"] for shard in setting.dataset.shards(setting.subset)]
    tars = [folder / setting.subset / "joint" / f"{name}.tar" for name in names]
    try:
        import webdataset
    except ImportError:
        return "tarfile and np.load, in order", _members(tars)
    shards = webdataset.WebDataset([str(tar) for tar in tars], resampled=True, shardshuffle=False)
    pipeline = shards.shuffle(min(SHUFFLED, setting.dataset.count(setting.subset))).decode()
    return "webdataset, same shards", iter(pipeline.to_tuple("joint.npy", "cls"))


def _members(tars: list[Path]) -> Iterator[tuple[np.ndarray, int]]:
    while True:
        for path in tars:
            with tarfile.open(path) as tar:
                label = -1
                for member in tar:
                    file = tar.extractfile(member)
                    assert file is not None, "a shard holds regular files only"
                    if member.name.endswith(".cls"):
                        label = int(file.read())
                    else:
                        yield np.load(io.BytesIO(file.read()), allow_pickle=False), label


def _rows(path: Path, count: int) -> Iterator[tuple[np.ndarray, int]]:
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File(path) as file:
        while True:
            for row in rng.permutation(count):
                yield file["joint"][row], int(file["label"][row])
