"""DALI as the reader: its batches are bit-identical to the native reader's and to what `tarfile` reads."""

import io
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelpipe.augment.chain import chain
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.dataset import Dataset, JoinedDataset, Reader
from skelpipe.errors import DatasetError, UsageError
from skelpipe.loader import Batch, Loader
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import On
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import FORMATS, Options, prepare

pytestmark = pytest.mark.usefixtures("threads")

NORMAL = chain("normal")
PAIR = {"query": NORMAL, "key": NORMAL, "plain": None}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: Any, skeleton_text: Any, moving_bodies: Any, ntu_names: Any) -> Callable[..., Path]:
    """Returns datasets of 24 training clips in shards of 7, each prepared once; tests must not change them."""
    root = tmp_path_factory.mktemp("dali")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names(actions=6)):
        (root / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 12, 1 + seed % 2)))

    def make(dtype: str = "float32", formats: str = "shards") -> Path:
        out = root / f"{dtype}-{formats}"
        options = Options("xsub", frames=8, shard_size=7, dtype=dtype)
        prepare(load_manifest("ntu60"), [root / "raw"], out, options, formats=FORMATS[formats], quiet=True)
        return out

    return make


@pytest.fixture
def dataset(prepared: Callable[..., Path]) -> Dataset:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed here")
    return Dataset.open(prepared())


@pytest.fixture
def copied(dataset: Dataset, tmp_path: Path) -> Dataset:
    """A dataset that may be damaged."""
    return Dataset.open(shutil.copytree(dataset.path, tmp_path / "copy"))


def loader(dataset: Dataset, reader: str = "dali", batch: int = 5, device: str = "cpu", **options: Any) -> Loader:
    view, subset = options.pop("view", "joint"), options.pop("subset", "train")
    stream = Stream(dataset, subset, [view], batch, **{"seed": 3, **options})
    return Loader(stream, device, PAIR, reader=reader, view=view, derive="stored")


def look(batch: Batch) -> tuple[Any, ...]:
    clips = {name: (tuple(x.shape), x.numpy().tobytes()) for name, x in batch.views.items()}
    return batch.epoch, batch.step, batch.index.tolist(), batch.label.tolist(), clips


OPTIONS: list[dict[str, Any]] = [
    {},
    {"drop_last": False, "batch": 7},
    {"drop_last": False, "batch": 24, "subset": "test"},
    {"shuffle": False, "drop_last": False, "view": "motion"},
    {"window": 1, "batch": 1},
    {"rank": 1, "world": 3, "drop_last": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("rows_at_once", [4096, 8])
def test_both_readers_give_the_same_batches_and_draws(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], rows_at_once: int
) -> None:
    monkeypatch.setattr("skelpipe.loader.dali.ROWS_AT_ONCE", rows_at_once)
    native = loader(dataset, "native", **options)
    expected = [[look(batch) for batch in native] for _ in range(2)]
    monkeypatch.setattr(Reader, "gather", None)  # from here on only DALI can read
    dali = loader(dataset, **options)
    for epoch in expected:
        assert [look(batch) for batch in dali] == epoch
        assert len(epoch) == len(dali) > 0
    assert dali.state() == native.state()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_clips_and_labels_are_those_of_the_tars(
    dataset: Dataset, prepared: Callable[..., Path], dtype: str
) -> None:
    dataset = Dataset.open(prepared(dtype))
    clips, labels = {}, {}
    for tar in sorted((dataset.path / "train" / "joint").glob("*.tar")):
        with tarfile.open(tar) as members:
            for member in members:
                id_, kind = member.name.split(".", 1)
                content = members.extractfile(member).read()  # type: ignore[union-attr]
                if kind == "cls":
                    labels[id_] = int(content)
                else:
                    clips[id_] = np.load(io.BytesIO(content))
    seen = {}
    for batch in loader(dataset, drop_last=False):
        for row, label, clip in zip(batch.index.tolist(), batch.label.tolist(), batch.plain, strict=True):
            id_ = dataset.ids("train")[row]
            assert id_ not in seen
            seen[id_] = clip
            assert clip.dtype == torch.float32
            assert label == labels[id_]
            assert np.array_equal(clip.numpy(), clips[id_].astype(np.float32))
    assert seen.keys() == clips.keys() == labels.keys()
    assert clips[id_].dtype == dtype
    assert len(seen) == 24


@pytest.mark.parametrize(("world", "batch"), [(2, 6), (2, 5), (3, 7)])
def test_ranks_share_each_batch_and_nothing_is_doubled(dataset: Dataset, world: int, batch: int) -> None:
    ranks = [list(loader(dataset, batch=batch, drop_last=False, rank=r, world=world)) for r in range(world)]
    whole = list(loader(dataset, "native", batch=batch, drop_last=False))
    assert {len(rank) for rank in ranks} == {len(whole)}
    for step, together in enumerate(whole):
        assert torch.equal(torch.cat([rank[step].index for rank in ranks]), together.index)
        assert torch.equal(torch.cat([rank[step].plain for rank in ranks]), together.plain)
    rows = [row for rank in ranks for share in rank for row in share.index.tolist()]
    assert sorted(rows) == list(range(24))


@pytest.mark.parametrize("reader", ["native", "dali"])
def test_ranks_read_the_donors_of_their_clips_besides(dataset: Dataset, reader: str) -> None:
    mixed = On("plain", SkeleMix(dataset.layout, blocks=(1, 1)))

    def batches(reader: str, **ranks: int) -> list[Batch]:
        stream = Stream(dataset, "train", ["joint"], 7, seed=3, drop_last=False, **ranks)
        return list(Loader(stream, "cpu", {"plain": None, "mixed": mixed}, reader=reader))

    first, second = (batches(reader, rank=r, world=2) for r in range(2))
    for one, other, whole in zip(first, second, batches("native"), strict=True):
        assert torch.equal(torch.cat([one.plain, other.plain]), whole.plain)
        assert torch.equal(torch.cat([one.mixed, other.mixed]), whole.mixed)
        assert torch.equal(torch.cat([one.mixed_donor, other.mixed_donor]), whole.mixed_donor)


def test_the_last_batch_is_dropped_or_partial_and_epochs_end(dataset: Dataset) -> None:
    dropped, partial = loader(dataset, batch=10), loader(dataset, batch=10, drop_last=False)
    orders = []
    for _ in range(2):
        assert [len(batch) for batch in dropped] == [10, 10]
        batches = list(partial)
        assert [len(batch) for batch in batches] == [10, 10, 4]
        orders.append([row for batch in batches for row in batch.index.tolist()])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(24))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("cut", [0, 3, 5, 7])
def test_resume_is_exact(dataset: Dataset, resumes_exactly: Callable[..., None], cut: int) -> None:
    resumes_exactly(lambda: loader(dataset, drop_last=False), look, cut)


def test_either_reader_goes_on_where_the_other_stopped(dataset: Dataset) -> None:
    readers = ["native", "dali"]
    for first, second in (readers, readers[::-1]):
        stopped, whole, resumed = loader(dataset, first), loader(dataset, first), loader(dataset, second)
        list(islice(stopped, 2))
        resumed.load_state(stopped.state())
        assert [look(batch) for batch in resumed] == [look(batch) for batch in whole][2:]


def running() -> int:
    return len(os.listdir("/proc/self/task"))


def index_folders() -> set[str]:
    return set(os.listdir(tempfile.gettempdir()))


def test_closing_ends_the_threads_and_dropping_removes_the_folder(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    list(loader(dataset))  # starts what torch and DALI keep for the process
    before, folders = running(), index_folders()
    reading = loader(dataset)
    batches = iter(reading)
    next(batches)
    assert running() > before
    assert len(index_folders() - folders) == 1
    reading.close()
    for _ in range(500):  # Linux lists a thread for a moment after it has ended
        if running() <= before:
            break
        time.sleep(0.01)
    assert running() <= before
    del reading, batches
    assert index_folders() == folders


def test_a_dataset_without_tars_is_refused(dataset: Dataset, prepared: Callable[..., Path]) -> None:
    hdf5 = Dataset.open(prepared(formats="hdf5"))
    with pytest.raises(DatasetError, match=r"float32-hdf5: .*HDF5 files only.*--format shards or both"):
        loader(hdf5)
    both = loader(Dataset.open(prepared(formats="both")))
    assert [look(batch) for batch in both] == [look(batch) for batch in loader(dataset)]


def test_a_cut_off_tar_is_named(copied: Dataset) -> None:
    tar = copied.path / "train" / "joint" / "000002.tar"
    tar.write_bytes(tar.read_bytes()[:-5000])
    with pytest.raises(DatasetError, match=r"train/joint/000002\.tar: \d+ bytes, \d+ expected"):
        loader(copied)


def test_an_index_that_is_missing_or_changed_is_named(copied: Dataset) -> None:
    index = copied.path / "train" / "joint" / "000001.idx"
    index.write_text(index.read_text().replace("512", "1024"))
    with pytest.raises(DatasetError, match=r"train/joint/000001\.idx: is not the index"):
        loader(copied)
    index.unlink()
    with pytest.raises(DatasetError, match=r"train/joint/000001\.idx: cannot be read.*No such file"):
        loader(copied)
    assert len(list(loader(copied, "native"))) == 4


def test_what_dali_cannot_read_is_named_and_can_be_read_once_repaired(copied: Dataset) -> None:
    tar = copied.path / "train" / "joint" / "000003.tar"
    reading = loader(copied, drop_last=False)
    content = tar.read_bytes()
    tar.unlink()
    with pytest.raises(DatasetError, match=r"copy: DALI cannot read it: .*train/joint/000003\.tar"):
        list(reading)
    tar.write_bytes(content)
    assert [batch.step for batch in reading] == [0, 1, 2, 3, 4]


def test_without_dali_the_extra_is_named(prepared: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(UsageError, match=r"pip install 'skelpipe\[dali\]'") as caught:
        loader(Dataset.open(prepared()))
    assert "\n" not in str(caught.value)


def test_an_unknown_reader_is_refused(memory_dataset: Any) -> None:
    with pytest.raises(UsageError, match="'tape'; there are: native, dali"):
        loader(memory_dataset([8]), "tape")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="DALI's GPU pipeline needs a CUDA device")
@pytest.mark.parametrize("batch", [5, 7])
def test_the_gpu_pipeline_gives_what_the_cpu_gives(dataset: Dataset, batch: int) -> None:
    here = loader(dataset, "native", batch=batch, drop_last=False)
    there = loader(dataset, batch=batch, drop_last=False, device="cuda")
    for _ in range(2):
        for a, b in zip(here, there, strict=True):
            assert b.plain.is_cuda
            assert torch.equal(a.index, b.index.cpu())
            assert torch.equal(a.plain, b.plain.cpu())
            torch.testing.assert_close(b.query.cpu(), a.query, rtol=0, atol=1e-5)


def test_several_datasets_are_read_as_by_the_native_reader(
    dataset: Dataset, folder: Path, prepared: Callable[..., Path], tmp_path: Path
) -> None:
    raw, options = folder.parent / "raw", Options("xview", frames=8, shard_size=4)
    prepare(load_manifest("ntu60"), [raw], tmp_path / "other", options, quiet=True)
    other = Dataset.open(tmp_path / "other")
    joined = JoinedDataset([dataset, other], [0.5, 2])
    found, expected = loader(joined), loader(joined, "native")
    assert [look(batch) for batch in found] == [look(batch) for batch in expected]
    found.close(), expected.close()
    with pytest.raises(UsageError, match="one --dtype"):
        loader(JoinedDataset([Dataset.open(prepared("float16")), other]))
