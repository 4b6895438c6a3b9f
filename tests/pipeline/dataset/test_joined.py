"""Several datasets as one: rows, labels, anchors, what does not fit together, and remote ones."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelpipe.dataset import Dataset, JoinedDataset
from skelpipe.dataset.joined import parts_of, shared_ids
from skelpipe.errors import DatasetError, UsageError
from skelpipe.loader import Loader, Stream
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare


@pytest.fixture(scope="module")
def parts(folder: Path, other_folder: Path) -> list[Dataset]:
    return [Dataset.open(folder), Dataset.open(other_folder)]


@pytest.fixture(scope="module")
def clips(parts: list[Dataset]) -> np.ndarray:
    """The joints of all training clips, of one part after the other, [N,C,T,V,M]."""
    return np.concatenate([part.reader("train", "joint").gather(np.arange(part.count("train"))) for part in parts])


@pytest.fixture
def make(
    raw_folder: Callable[..., Path], ntu_names: Callable[..., list[str]], tmp_path: Path
) -> Callable[..., Dataset]:
    """A maker of small datasets with other options."""

    def prepared(name: str, split: str = "xsub", frames: int = 10, bodies: int = 2, **options: Any) -> Dataset:
        raw = (
            raw_folder(ntu_names(actions=1), folder="raw") if not (tmp_path / "raw").exists() else tmp_path / "raw"
        )
        formats = options.pop("formats", ("shards",))
        settings = Options(split, frames, bodies, 3, **options)
        prepare(load_manifest("ntu60"), [raw], tmp_path / name, settings, formats=formats, quiet=True)
        return Dataset.open(tmp_path / name)

    return prepared


def test_shared_ids(parts: list[Dataset]) -> None:
    """xsub and xview of the same recordings have some in train of one and test of the other."""
    joined = JoinedDataset(parts)
    wanted = {id_ for id_ in joined.ids("train") if any(id_ in part.ids("test") for part in parts)}
    assert shared_ids(joined) == len(wanted) > 0
    assert shared_ids(parts[0]) == 0


def test_rows_labels_and_ids_follow_one_another(parts: list[Dataset], clips: np.ndarray) -> None:
    joined = JoinedDataset(parts)
    for subset in ("train", "test"):
        assert joined.count(subset) == sum(part.count(subset) for part in parts)
        assert joined.ids(subset) == [id_ for part in parts for id_ in part.ids(subset)]
        assert joined.labels(subset).tolist() == [label for part in parts for label in part.labels(subset)]
    assert joined.classes == parts[0].classes == parts[1].classes
    assert joined.digest == f"{parts[0].digest}+{parts[1].digest}"
    assert joined.part_names == ("ntu60-xsub", "ntu60-xview")
    assert joined.part_counts("train") == [part.count("train") for part in parts]
    assert parts_of(joined) == tuple(parts)
    rows = np.random.default_rng(0).permutation(len(clips))
    reader = joined.reader("train", "joint")
    np.testing.assert_array_equal(reader.gather(rows), clips[rows])
    mapped = reader.mapped(rows)
    assert mapped is not None
    np.testing.assert_array_equal(mapped.read().numpy(), clips[rows])
    with pytest.raises(IndexError):
        reader.gather(np.array([len(clips)]))


def test_formats_and_types_of_numbers_may_differ(make: Callable[..., Dataset], parts: list[Dataset]) -> None:
    """HDF5 beside tars, float16 beside float32, a shard of one clip beside larger ones."""
    joined = JoinedDataset([make("half", dtype="float16"), parts[0], make("h5", "xview", formats=("hdf5",))])
    expected = np.concatenate(
        [part.reader("train", "joint").gather(np.arange(part.count("train"))) for part in joined.parts]
    )
    rows = np.random.default_rng(1).integers(0, len(expected), 40)
    reader = joined.reader("train", "joint")
    np.testing.assert_array_equal(reader.gather(rows), expected[rows])
    assert reader.mapped(rows) is None
    local = JoinedDataset(joined.parts[:0:-1])  # HDF5 first, whose rows have no gaps
    again = np.concatenate(
        [part.reader("train", "joint").gather(np.arange(part.count("train"))) for part in local.parts]
    )
    np.testing.assert_array_equal(local.reader("train", "joint").gather(np.arange(len(again))), again)


def test_the_anchor_is_the_mean_of_all_clips(parts: list[Dataset], clips: np.ndarray) -> None:
    for weights in (None, [1, 3]):
        found = JoinedDataset(parts, weights).anchor("joint")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, clips.astype(np.float64).mean(axis=0), atol=1e-6)


def test_classes_that_differ_stay_apart(parts: list[Dataset], tmp_path: Path) -> None:
    second = Dataset(parts[1].path, {**parts[1].card, "classes": ["sit", "stand"]})
    joined = JoinedDataset([parts[0], second])
    assert joined.classes[0] == f"ntu60-xsub: {parts[0].classes[0]}"
    assert joined.classes[-2:] == ("ntu60-xview: sit", "ntu60-xview: stand")
    first = parts[0].count("train")
    labels = joined.labels("train")
    assert labels[:first].tolist() == parts[0].labels("train").tolist()
    assert labels[first:].tolist() == (parts[1].labels("train") + 60).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 12}, "frames 12 and 10"),
        ({"bodies": 1}, "bodies 1 and 2"),
        ({"profile": "ctrgcn"}, "profile"),
        ({"frames": 12, "bodies": 1}, "frames 12 and 10; bodies 1 and 2"),
    ],
)
def test_what_does_not_fit_together_is_named(
    make: Callable[..., Dataset], parts: list[Dataset], options: dict[str, Any], message: str
) -> None:
    other = make("another", **options)
    with pytest.raises(UsageError) as caught:
        JoinedDataset([other, parts[0]])
    assert message in str(caught.value)
    assert str(other.path) in str(caught.value)
    assert str(parts[0].path) in str(caught.value)


def test_layouts_and_channels_must_agree(parts: list[Dataset]) -> None:
    moved = {**parts[1].card["layout"], "name": "other"}
    with pytest.raises(UsageError, match="layout kinect-v2-25 and other"):
        JoinedDataset([parts[0], Dataset(parts[1].path, {**parts[1].card, "layout": moved})])
    scored = {**parts[1].card, "channels": ["x", "y", "z", "score"], "shape": [4, *parts[1].card["shape"][1:]]}
    with pytest.raises(UsageError, match="channels x, y, z and x, y, z, score"):
        JoinedDataset([parts[0], Dataset(parts[1].path, scored)])


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -2], [float("nan"), 1], [1, float("inf")]])
def test_weights_that_do_not_fit(parts: list[Dataset], weights: list[float]) -> None:
    with pytest.raises(UsageError, match="weight"):
        JoinedDataset(parts, weights)


def test_the_same_dataset_twice_is_refused(parts: list[Dataset]) -> None:
    with pytest.raises(UsageError, match="hold the same dataset"):
        JoinedDataset([*parts, parts[0]])


def test_what_only_one_dataset_has(parts: list[Dataset]) -> None:
    joined = JoinedDataset(parts)
    for read in (joined.table, lambda: joined.videos("train"), lambda: joined.webdataset("train", "joint")):
        with pytest.raises(DatasetError, match="one"):
            read()


def test_an_epoch_has_every_clip_once_and_resumes_on_any_ranks(parts: list[Dataset], clips: np.ndarray) -> None:
    def stream(world: int = 1, rank: int = 0, **options: Any) -> Stream:
        weights = options.pop("weights", None)
        return Stream(
            JoinedDataset(parts, weights), "train", ["joint"], 4, seed=2, rank=rank, world=world, **options
        )

    alone = stream(drop_last=False)
    epoch = list(alone)
    index = np.concatenate([batch.index for batch in epoch])
    assert sorted(index.tolist()) == list(range(len(clips)))
    np.testing.assert_array_equal(np.concatenate([batch.views["joint"] for batch in epoch]), clips[index])
    weighted = {"weights": [0.5, 2]}
    whole = stream(**weighted)
    batches = list(whole)
    counts = np.bincount(np.concatenate([b.index for b in batches]), minlength=len(clips))
    assert counts[: parts[0].count("train")].max() == 1
    ranks = [stream(3, rank, **weighted) for rank in range(3)]
    state = stream(**weighted).state(after=batches[2])
    assert state["weights"] == [0.5, 2.0]
    for rank in ranks:
        rank.load_state(state)
    for batch, *shares in zip(batches[3:], *ranks, strict=True):
        assert batch.index.tolist() == [row for share in shares for row in share.index.tolist()]
    for other in ({}, {"weights": [1, 2]}):
        with pytest.raises(UsageError, match="weights"):
            stream(**other).load_state(state)
    with pytest.raises(UsageError, match="weights None"):
        whole.load_state(stream().state())
    with pytest.raises(DatasetError, match="digest"):
        Stream(parts[0], "train", ["joint"], 4, seed=2).load_state(stream().state())


def test_batches_of_local_and_remote_parts_are_the_same(
    parts: list[Dataset], web: str, tmp_path: Path, threads: Callable[[], list[Any]]
) -> None:
    room = sum(shard["views"]["joint"]["bytes"] for shard in parts[0].shards("train"))
    far = Dataset.open(web, cache=tmp_path / "cache", cache_size=3 * room)

    def seen(first: Dataset, **options: Any) -> list[tuple[Any, ...]]:
        stream = Stream(JoinedDataset([first, parts[1]], [1, 2]), "train", ["joint"], 5, seed=4, **options)
        loader = Loader(stream, "cpu", {"query": None})
        found = [(b.index.tolist(), b.query.numpy().tobytes()) for _ in range(2) for b in loader]
        loader.close()
        return found

    assert seen(far, window=3) == seen(parts[0], window=3)
    assert seen(far) == seen(parts[0])
    reader = JoinedDataset([far, parts[1]]).reader("train", "joint")
    assert reader.remote is not None
    assert reader.mapped(np.arange(3)) is None


def test_a_capacity_that_is_too_small_is_refused(parts: list[Dataset], web: str, tmp_path: Path) -> None:
    shard = parts[0].shards("train")[0]["views"]["joint"]["bytes"]
    far = Dataset.open(web, cache=tmp_path / "cache", cache_size=3 * shard)
    joined = JoinedDataset([far, parts[1]])
    with pytest.raises(UsageError, match="shuffle window"):
        Stream(joined, "train", ["joint"], 5, window=4)
    stream = Stream(joined, "train", ["joint"], 5)
    assert stream.window == 1
    assert sum(len(batch.index) for batch in stream) == len(stream) * 5


def test_all_of_it_can_be_pickled(parts: list[Dataset], clips: np.ndarray) -> None:
    joined = pickle.loads(pickle.dumps(JoinedDataset(parts, [1, 2])))
    assert joined.weights == (1.0, 2.0)
    reader = pickle.loads(pickle.dumps(joined.reader("train", "joint")))
    np.testing.assert_array_equal(reader.gather(np.arange(len(clips))), clips)
    assert torch.equal(reader.mapped(np.arange(2)).read(), torch.from_numpy(clips[:2]))


def test_a_part_without_labels_leaves_its_clips_without(parts: list[Dataset]) -> None:
    plain = Dataset(parts[1].path, {**parts[1].card, "classes": []})
    joined = JoinedDataset([parts[0], plain])
    assert not joined.labelled
    assert joined.stored_labels("train")[: parts[0].count("train")].tolist() == parts[0].labels("train").tolist()
    with pytest.raises(DatasetError, match="has no labels"):
        joined.labels("train")
    with pytest.raises(DatasetError, match="has no labels"):
        Stream(joined, "train", ["joint"], 4, balanced=True)
