"""What `repr` says of the front door's objects: the facts of their construction, and never an error."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import skelpipe
from skelpipe.dataset import JoinedDataset
from skelpipe.front.descriptions import counted, described_safely, shape_text, short_digest
from skelpipe.loader import Loader, On, Stream
from skelpipe.loader.mixing_views import actclr, skelemixclr
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


def test_one_has_no_plural() -> None:
    words = [
        counted(1, "clip"),
        counted(0, "test clip"),
        counted(1024, "epoch"),
        counted(2, "class"),
        counted(3, "batch"),
    ]
    assert words == ["1 clip", "0 test clips", "1,024 epochs", "2 classes", "3 batches"]


def test_a_dataset_tells_its_card_without_opening_a_shard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = skelpipe.Dataset.open(folder)
    monkeypatch.setattr(Path, "open", None)
    monkeypatch.setattr(Path, "read_bytes", None)
    text = repr(dataset)
    assert "ntu60" in text
    assert "split xsub" in text
    counts = {name: int(count) for name, count in re.findall(r"(train|test) (\d+)", text)}
    assert counts == {"train": dataset.count("train"), "test": dataset.count("test")}
    assert "[N,3,10,25,2] of kinect-v2-25" in text
    assert "60 classes" in text
    assert "views joint, bone, motion" in text
    assert re.search(r"digest (\w+),", text)[1] == dataset.digest[:8]  # type: ignore[index]
    assert str(folder) in text
    assert "\n" not in text


def test_joined_datasets_are_both_named(folder: Path, other_folder: Path) -> None:
    parts = [skelpipe.Dataset.open(each) for each in (folder, other_folder)]
    text = repr(JoinedDataset(parts))
    assert f"train {sum(part.count('train') for part in parts)}" in text
    assert "+".join(part.digest[:8] for part in parts) in text
    assert "xsub+xview" in text


def test_a_stream_tells_its_order_and_position(folder: Path) -> None:
    dataset = skelpipe.Dataset.open(folder)
    stream = Stream(dataset, "train", ["joint", "bone"], 5, seed=7, window=3)
    stream.seek(2, 1)
    text = repr(stream)
    batches = dataset.count("train") // 5
    for fact in ("train, views joint, bone", f"{batches} batches of 5", "over 3 shards with seed 7"):
        assert fact in text
    assert "epoch 2, step 1" in text
    next(iter(stream))
    assert "epoch 2, step 2" in repr(stream)
    assert "row order" in repr(Stream(dataset, "test", ["joint"], 2))
    assert "rank 1 of 2" in repr(Stream(dataset, "test", ["joint"], 2, rank=1, world=2))


def test_a_loader_tells_device_and_views_also_when_it_is_closed(folder: Path) -> None:
    stream = Stream(skelpipe.Dataset.open(folder), "train", ["joint"], 4)
    views = {"query": skelpipe.chain("normal", shear=0.25), "plain": None}
    loader = Loader(stream, "cpu", {**views, "noisy": On("query", skelpipe.chain(["noise"]))}, view="bone")
    next(iter(loader))
    first, *rest = repr(loader).splitlines()
    assert "on cpu, view bone" in first
    assert repr(stream) in first
    assert "query: <Chain: crop(ratio=6), shear(amplitude=0.25)>" in rest[0]
    assert "plain: clips as read" in rest[1]
    assert "noise(sd=0.01" in rest[2]
    assert rest[2].endswith("on query")
    before = repr(loader)
    loader.close()
    assert repr(loader) == before


@pytest.mark.parametrize("made", [skelemixclr(KINECT), actclr(KINECT, "joint", lambda x: x)])
def test_views_that_are_mixed_name_what_they_are_made_from(made: dict[str, Any], memory_dataset: Any) -> None:
    stream = Stream(memory_dataset([8], (3, 64, 25, 2)), "train", ["joint"], 4)
    lines = repr(Loader(stream, "cpu", made)).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == list(made)
    for line, (name, view) in zip(lines, made.items(), strict=True):
        for used in getattr(view, "uses", ()):
            assert used in line, name


def test_a_layout_tells_joints_bones_and_centre() -> None:
    assert repr(KINECT) == "<Layout kinect-v2-25: 25 joints, 24 bones, centre spine shoulder (20)>"


@pytest.mark.parametrize("kind", [skelpipe.Dataset, Stream, Loader, skelpipe.Layout, type(skelpipe.chain([]))])
def test_half_built_objects_say_so(kind: type) -> None:
    assert repr(kind.__new__(kind)) == f"<{kind.__name__}, not complete>"


def test_a_description_that_fails_is_replaced() -> None:
    assert described_safely(lambda self: self.missing)(SimpleNamespace()) == "<SimpleNamespace, not complete>"


def test_digests_are_short_and_shapes_are_those_of_batches() -> None:
    assert short_digest("0123456789abcdef+fedcba9876543210") == "01234567+fedcba98"
    assert shape_text((3, 64, 25, 2)) == "[N,3,64,25,2]"
