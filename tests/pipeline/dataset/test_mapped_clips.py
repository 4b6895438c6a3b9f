"""Views made from memory-mapped clips are bit-identical to those made from clips in memory."""

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.dataset import Dataset
from skelpipe.loader import Loader
from skelpipe.loader.mixing_views import skelemixclr
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Mats, On, view_recipes
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
KINDS = {"tars": {}, "hdf5": {"formats": ("hdf5",)}, "half": {"dtype": "float16"}}


@pytest.fixture(scope="module", params=list(KINDS))
def dataset(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    skeleton_text: Callable[..., str],
    moving_bodies: Callable[..., list[object]],
    ntu_names: Callable[..., list[str]],
) -> Dataset:
    """A dataset with shards of 4 clips, in each container and type."""
    root = tmp_path_factory.mktemp("containers")
    raw = root / "raw"
    raw.mkdir()
    for seed, name in enumerate(ntu_names(actions=4, subjects=(1, 2, 3))):
        (raw / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 12 + seed % 5, 1 + seed % 2)))
    options = Options("xsub", 16, 2, 4, dtype=KINDS[request.param].get("dtype", "float32"))
    formats = KINDS[request.param].get("formats", ("shards",))
    prepare(load_manifest("ntu60"), [raw], root / "ds", options, formats=formats, quiet=True)
    return Dataset.open(root / "ds")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of this kind")
def test_more_files_are_read_than_may_be_open(dataset: Dataset) -> None:
    """Three views of both subsets, of more files than descriptors are left, in training order and in row order."""
    import resource

    views = ["joint", "bone", "motion"]
    files = sum(len(dataset.shards(subset)) for subset in ("train", "test")) * len(views)
    if dataset.card["formats"] == ["hdf5"]:
        files = 2
    dataset.ids("train"), dataset.ids("test")  # of the sample table
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/dev/fd")))
    shared = 2  # one descriptor per stream: its position is in shared memory
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + shared + min(8, files - 1), before[1]))
    try:
        streams = [Stream(dataset, subset, views, 2) for subset in ("train", "test")]
        found = [[batch.views for batch in stream] for stream in streams]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    again = [[batch.views for batch in Stream(dataset, subset, views, 2)] for subset in ("train", "test")]
    assert all(
        np.array_equal(batch[view], other[view])
        for ours, theirs in zip(found, again, strict=True)
        for batch, other in zip(ours, theirs, strict=True)
        for view in views
    )


def test_mapped_clips_equal_gathered_ones(dataset: Dataset) -> None:
    reader = dataset.reader("train", "bone")
    rows = np.random.default_rng(0).permutation(len(reader))[:9]
    mapped = reader.mapped(rows)
    if dataset.card["dtype"] == "float16":
        assert mapped is None
        return
    assert mapped is not None
    assert mapped.shape == (9, *dataset.shape)
    mapped.fetch()
    assert torch.equal(mapped.read(), torch.from_numpy(reader.gather(rows)))
    for wrong in ([-1], [len(reader)]):
        with pytest.raises(IndexError, match="rows go from 0"):
            reader.mapped(np.array(wrong))


RECIPES = {
    "normal": lambda: {"query": chain("normal"), "key": chain("normal")},
    "extreme": lambda: {"query": chain("normal"), "extreme": chain("aimclr-extreme", layout=KINECT)},
    "skelemix": lambda: skelemixclr(KINECT, blocks=(1, 2)),
    "mix in a chain": lambda: {"key": chain("normal"), "x": Chain([*chain("normal").ops, SkeletonAdaIN(KINECT)])},
    "raw beside": lambda: {"raw": None, "query": chain("normal")},
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("view", ["joint", "motion"])
def test_a_loader_gives_what_its_chains_make_of_gathered_clips(dataset: Dataset, name: str, view: str) -> None:
    recipe = RECIPES[name]()
    loader = Loader(Stream(dataset, "train", ["joint"], 5, seed=3), "cpu", recipe, view=view)
    plain = Loader(Stream(dataset, "train", ["joint"], 5, seed=3), "cpu", recipe, view=view)
    plain._source.reads_mapped = False
    assert loader._source.reads_mapped == (name != "raw beside" and dataset.card["dtype"] == "float32")
    compared = 0
    for ours, theirs in zip(loader, plain, strict=True):
        for key, clips in theirs.views.items():
            assert torch.equal(ours.views[key], clips)
            compared += 1
        for key, extra in theirs.extras.items():
            assert torch.equal(ours.extras[key], extra)
    assert compared >= 2 * len(loader)


def test_one_thread_reads_on_into_the_next_epochs(dataset: Dataset, threads: Any) -> None:
    recipe = {"query": chain("normal")}

    def opened(epoch: int, step: int = 0) -> Loader:
        loader = Loader(Stream(dataset, "train", ["joint"], 5, seed=3), "cpu", recipe)
        loader.stream.seek(epoch, step)
        return loader

    def same(ours: Loader, epoch: int, step: int = 0) -> bool:
        pairs = zip(ours, opened(epoch, step), strict=True)
        return all(torch.equal(a.query, b.query) and torch.equal(a.index, b.index) for a, b in pairs)

    loader, reading = opened(0), []
    for epoch in range(3):
        assert same(loader, epoch)
        reading.append(threads())
    assert reading[0] == reading[1] == reading[2]
    assert len(reading[0]) == loader._source.reads_mapped
    loader.stream.seek(1, 1)  # the thread has read ahead for another position
    assert same(loader, 1, 1)
    loader.load_state({**loader.state(), "epoch": 7})
    assert threads() == []
    assert same(loader, 7)
    loader.close()


@pytest.mark.parametrize("end", ["close", "iter", "load_state"])
def test_an_iteration_that_was_ended_gives_none_of_the_batches_read_ahead(
    dataset: Dataset, threads: Any, end: str
) -> None:
    loader = Loader(Stream(dataset, "train", ["joint"], 2, seed=3), "cpu", {"query": chain("normal")})
    whole = [batch.query for batch in loader]
    loader.close()
    loader.stream.seek(0, 0)
    batches = iter(loader)
    assert torch.equal(next(batches).query, whole[0])
    if end == "close":
        loader.close()
    elif end == "load_state":
        loader.load_state(loader.state())
    later = iter(loader)
    if end == "iter":
        assert torch.equal(next(later).query, whole[1])
    with pytest.raises(RuntimeError, match="closed, or started anew"):
        next(batches)
    given = 1 + (end == "iter")
    assert loader.state()["step"] == given
    for ours, expected in zip(later, whole[given:], strict=True):
        assert torch.equal(ours.query, expected)
    loader.close()
    assert threads() == []


def test_a_view_is_the_chain_applied_to_the_rows_of_its_index(dataset: Dataset) -> None:
    """The reference needs no loader: rows by index, draws by (seed, epoch, row), one sample at a time."""
    normal = chain("normal")
    loader = Loader(Stream(dataset, "train", ["joint"], 6, seed=5), "cpu", {"query": normal})
    reader = dataset.reader("train", "joint")
    for batch in loader:
        for row, clip in zip(batch.index.tolist(), batch.query, strict=True):
            raw = torch.from_numpy(reader.gather(np.array([row])))
            draws = Draws(5, 0, torch.tensor([row]), 0, torch.tensor([batch.step]))
            assert torch.equal(normal(raw, draws)[0], clip)


def test_the_first_pass_decides_whether_clips_stay_where_they_are() -> None:
    takes = {
        "normal": chain("normal"),
        "extreme": chain("aimclr-extreme", layout=KINECT),
        "half": chain("normal").split(1)[0],
        "none": None,
    }
    found = {name: entry.takes_mapped for name, entry in view_recipes(takes).items()}
    first, _ = chain("normal").split(1)
    assert found == {"normal": True, "extreme": True, "half": first.begins_by_mixing, "none": False}
    assert not chain("actclr-actionlet", layout=KINECT, curriculum=True).begins_by_mixing
    carried = Mats("a", "b", lambda x: x, mask="carried")
    recomputed = Mats("a", "b", lambda x: x)
    assert (carried.takes_mapped, recomputed.takes_mapped) == (False, True)
    assert On("a", chain("normal")).takes_mapped


def test_a_frame_that_is_not_there_is_refused_of_mapped_clips_too(dataset: Dataset) -> None:
    from skelpipe.augment.warp import warp

    mapped = dataset.reader("train", "joint").mapped(np.arange(2))
    if mapped is None:
        pytest.skip("half-precision clips are widened in memory first")
    frames = torch.full((2, dataset.frames), dataset.frames)
    with pytest.raises(IndexError, match="frame or joint"):
        warp(mapped, frames, torch.eye(3).expand(2, 3, 3))


def test_what_no_pass_mixes_is_copied(dataset: Dataset) -> None:
    from skelpipe.augment.warp import warp

    reader = dataset.reader("test", "joint")
    mapped = reader.mapped(np.arange(3))
    if mapped is None:
        pytest.skip("half-precision clips are widened in memory first")
    copy = warp(mapped)
    assert torch.equal(copy, torch.from_numpy(reader.gather(np.arange(3))))
    copy.zero_()  # the copy is writable, the maps are not
    flipped = warp(mapped, joints=torch.arange(24, -1, -1).expand(3, 25))
    assert torch.equal(flipped, torch.from_numpy(reader.gather(np.arange(3))).flip(3))
