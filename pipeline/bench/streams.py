"""How fast shuffled batches are read, without augmentation and with it."""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.bench.augmentations import bare
from skelpipe.bench.timing import BenchRow, Way, compare
from skelpipe.bench.view_sets import ViewSet, view_sets
from skelpipe.bench.workload import Workload
from skelpipe.loader import Loader
from skelpipe.loader.read_ahead import DRAWN_AT_ONCE

__all__ = ["loader_rows", "other_reader", "stream_rows"]

SHUFFLED = 1000  # samples in the shuffle buffer of a sequential reader
PREFETCH = 2
LOADED = ("normal", "aimclr")


def stream_rows(workload: Workload) -> list[Callable[[], BenchRow]]:
    """Return the measurement of `Stream`, in host memory, without augmentation."""
    return [partial(_stream, workload)]


def loader_rows(workload: Workload) -> list[Callable[[], BenchRow]]:
    """Return the measurements of `Loader`: what reading costs on top of augmentation."""
    sets = view_sets(workload.dataset.layout, workload.dataset.frames)
    return [partial(_loader, workload, views) for views in sets if views.name in LOADED]


def _stream(workload: Workload) -> BenchRow:
    against, samples = other_reader(workload)
    batches = _forever(workload.stream())

    def one_batch() -> int:
        batch = [next(samples) for _ in range(workload.batch)]
        clips, labels = zip(*batch, strict=True)
        np.stack(clips), np.array(labels)
        return len(batch)

    rates = compare(lambda: len(next(batches).index), one_batch, workload.seconds, workload.device)
    return BenchRow("stream (joint clips, shuffled)", against, rates, workload.batch)


def _loader(workload: Workload, views: ViewSet) -> BenchRow:
    loader = Loader(workload.stream(), workload.device, views.recipe, prefetch=PREFETCH)
    batches = _forever(loader)
    try:
        ways: tuple[Way, Way] = lambda: len(next(batches)), bare(workload, views.recipe)
        rates = compare(*ways, workload.seconds, workload.device, skip=max(PREFETCH, DRAWN_AT_ONCE) + 1)
    finally:
        loader.close()
    return BenchRow(
        f"loader {views.name} ({views.views})", "the same views of clips in memory", rates, workload.batch
    )


def _forever(source: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from source


def other_reader(workload: Workload) -> tuple[str, Iterator[tuple[np.ndarray, int]]]:
    """Return a simple reader of the same files: what it is, in words, and its endless samples (clip, label)."""
    folder, formats = workload.dataset.filesystem.local_path, workload.dataset.card["formats"]
    if "shards" not in formats:
        return "h5py, one row at a time", _rows(
            folder / f"{workload.subset}.h5", workload.dataset.count(workload.subset)
        )
    names = [shard["name"] for shard in workload.dataset.shards(workload.subset)]
    tars = [folder / workload.subset / "joint" / f"{name}.tar" for name in names]
    try:
        import webdataset
    except ImportError:
        return "tarfile and np.load, in order", _members(tars)
    shards = webdataset.WebDataset([str(tar) for tar in tars], resampled=True, shardshuffle=False)
    pipeline = shards.shuffle(min(SHUFFLED, workload.dataset.count(workload.subset))).decode()
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
