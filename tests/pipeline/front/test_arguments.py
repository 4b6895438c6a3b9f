"""Mistakes at the front door: each is answered by one line that says what is possible."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

import skelpipe
from skelpipe import Dataset, Layout, Loader, Stream, chain
from skelpipe.augment.chain import Chain
from skelpipe.augment.crop import Crop
from skelpipe.dataset import JoinedDataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.front.arguments import given, row_numbers, whole_number


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def stream(dataset: Dataset) -> Stream:
    return Stream(dataset, "train", ["joint"], 4)


def said(call: Callable[[], Any]) -> str:
    """The line that a mistake is answered with."""
    with pytest.raises(SkelpipeError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert " at 0x" not in str(caught.value)
    return str(caught.value)


DATASETS: list[tuple[Callable[[Dataset], Any], str]] = [
    (lambda ds: Dataset.open("nowhere"), "nowhere: no dataset.json"),
    (lambda ds: Dataset.open(None), "path of its folder or its URL, not by None"),  # type: ignore[arg-type]
    (lambda ds: Dataset.open([ds.path]), "not by a list"),  # type: ignore[arg-type]
    (Dataset.open, "open already"),  # type: ignore[list-item]
    (lambda ds: Dataset(ds.path), "Dataset.open"),
    (lambda ds: Dataset.open(ds.path, cache_size="10GB"), "whole number"),  # type: ignore[arg-type]
    (lambda ds: Dataset.open(ds.path, cache=5), "cache is a folder"),  # type: ignore[arg-type]
    (lambda ds: ds.count("val"), "there are: train, test"),
    (lambda ds: ds.labels("val"), "there are: train, test"),
    (lambda ds: ds.videos("val"), "there are: train, test"),
    (lambda ds: ds.samples("train", "bones"), "joint, bone, motion"),
    (lambda ds: ds.reader("train", "bones"), "joint, bone, motion"),
    (lambda ds: ds.anchor("bones"), "joint, bone, motion"),
    (lambda ds: ds.samples("train")["a"], "whole numbers"),  # type: ignore[index]
    (lambda ds: ds.reader("train", "joint").gather(np.array([0.5])), "whole numbers"),
]
JOINED: list[tuple[Callable[[Dataset], Any], str]] = [
    (JoinedDataset, "a list of them, not a Dataset"),  # type: ignore[list-item]
    (lambda ds: JoinedDataset([]), "no dataset to train on"),
    (lambda ds: JoinedDataset([ds, str(ds.path)]), "Dataset.open(...) of each, not"),  # type: ignore[list-item]
    (lambda ds: JoinedDataset([ds, ds]), "hold the same dataset"),
]
STREAMS: list[tuple[Callable[[Dataset], Any], str]] = [
    (lambda ds: Stream(str(ds.path), "train", ["joint"], 2), "Dataset.open"),  # type: ignore[arg-type]
    (lambda ds: Stream(Dataset, "train", ["joint"], 2), "not the class Dataset"),  # type: ignore[arg-type]
    (lambda ds: Stream(ds, "val", ["joint"], 2), "there are: train, test"),
    (lambda ds: Stream(ds, "train", "joint", 2), "a list, such as ['joint']"),
    (lambda ds: Stream(ds, "train", ["bones"], 2), "joint, bone, motion"),
    (lambda ds: Stream(ds, "train", [], 2), "one or several of joint, bone, motion, and none is given"),
    (lambda ds: Stream(ds, "train", ["joint"], 0), "at least 1"),
    (lambda ds: Stream(ds, "train", ["joint"], 2.5), "whole number"),  # type: ignore[arg-type]
    (lambda ds: Stream(ds, "train", ["joint"], 10_000), "at most 24"),
    (lambda ds: Stream(ds, "train", ["joint"], 2, seed="a"), "seed is 'a'"),  # type: ignore[arg-type]
    (lambda ds: Stream(ds, "train", ["joint"], 2, window=1.5), "shuffle window"),  # type: ignore[arg-type]
    (lambda ds: Stream(ds, "train", ["joint"], 2, rank="0"), "rank is '0'"),  # type: ignore[arg-type]
    (lambda ds: Stream(ds, "train", ["joint"], 2).load_state(None), "state()"),  # type: ignore[arg-type]
    (lambda ds: Stream(ds, "train", ["joint"], 2).seek("a", 0), "epoch is 'a'"),  # type: ignore[arg-type]
    (lambda ds: Stream(ds, "train", ["joint"], 2).state(after=3), "batch"),  # type: ignore[arg-type]
]
LOADERS: list[tuple[Callable[[Stream], Any], str]] = [
    (lambda st: Loader(st, "cpu", chain("normal")), "by name, such as {'query': chain('normal')"),  # type: ignore[arg-type]
    (
        lambda st: next(iter(DataLoader(Loader(st, "cpu", {"query": None}), batch_size=None))),
        "DataLoader(loader.stream",
    ),  # type: ignore[arg-type]
    (lambda st: Loader(st, "cpu", [chain("normal")]), "not as a list"),  # type: ignore[arg-type]
    (lambda st: Loader(st, "cpu", {1: None}), "'query', not 1"),  # type: ignore[dict-item]
    (lambda st: Loader(st, "cpu", {"query": "normal"}), "chain('normal') makes one"),  # type: ignore[dict-item]
    (lambda st: Loader(st, "cpu", {"query": Crop}), "Crop(...) makes one"),
    (lambda st: Loader(st, "cpu", {"query": print}), "not a builtin_function"),  # type: ignore[dict-item]
    (lambda st: Loader(st, "cpu", {"label": None}), "cannot be called 'label'"),
    (lambda st: Loader(st.dataset, "cpu", {"clip": None}), "such as Stream(dataset"),  # type: ignore[arg-type]
    (lambda st: Loader(st, {"clip": None}, "cpu"), "there is no device"),  # type: ignore[arg-type]
    (lambda st: Loader(st, "gpu", {"clip": None}), "auto, cpu, cuda or cuda:N"),
    (lambda st: Loader(st, "cpu", {"clip": None}, view="bones"), "joint, bone, motion"),
    (lambda st: Loader(st, "cpu", {"clip": None}, view="bone", derive="stored"), "only joint is opened"),
    (lambda st: Loader(st, "cpu", {"clip": None}, prefetch="2"), "prefetch"),  # type: ignore[arg-type]
    (lambda st: Loader(st, "cpu", {"clip": None}, reader="fast"), "native, dali, webdataset"),
]
CHAINS: list[tuple[Callable[[], Any], str]] = [
    (lambda: chain("norml"), "did you mean 'normal'"),
    (lambda: chain(Crop()), "must be a list of operators"),
    (lambda: chain("normal", layout=25), "not 25"),  # type: ignore[arg-type]
    (lambda: chain("aimclr-extreme", layout="kinect"), "kinect-v2-25"),
    (lambda: chain("normal", shear="a"), "shear is 'a'"),  # type: ignore[arg-type]
    (lambda: chain("normal", shear=float("nan")), "shear is nan"),
    (lambda: chain("normal", crop=2.5), "crop is 2.5"),  # type: ignore[arg-type]
    (lambda: chain(["crop"], curriculum=True), "actclr-normal"),
    (lambda: Chain("normal"), "list of operators, not 'normal'"),  # type: ignore[arg-type]
    (lambda: Chain([Crop]), "Crop(...) makes one"),  # type: ignore[list-item]
    (lambda: Chain(["crop"]), "sample and apply"),  # type: ignore[list-item]
    (lambda: Chain(None), "not None"),  # type: ignore[arg-type]
]
LAYOUTS: list[tuple[Callable[[], Any], str]] = [
    (lambda: Layout("kinect-v2-25"), "Layout.named('kinect-v2-25')"),  # type: ignore[call-arg]
    (lambda: Layout.named("kinect"), "kinect-v2-25"),
    (lambda: Layout.named(["coco-17"]), "not a list"),  # type: ignore[arg-type]
    (lambda: Layout.from_plain({}), "lacks 'name'"),
    (lambda: Layout.from_plain("coco-17"), "to_plain"),  # type: ignore[arg-type]
    (lambda: skelpipe.skeleton.parse_layout(None), "a mapping of keys is expected"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "what"), DATASETS + JOINED)
def test_of_a_dataset(call: Callable[[Dataset], Any], what: str, dataset: Dataset) -> None:
    assert what in said(lambda: call(dataset))


@pytest.mark.parametrize(("call", "what"), STREAMS)
def test_of_a_stream(call: Callable[[Dataset], Any], what: str, dataset: Dataset) -> None:
    assert what in said(lambda: call(dataset))


@pytest.mark.parametrize(("call", "what"), LOADERS)
def test_of_a_loader(call: Callable[[Stream], Any], what: str, stream: Stream) -> None:
    assert what in said(lambda: call(stream))


@pytest.mark.parametrize(("call", "what"), CHAINS + LAYOUTS)
def test_of_a_chain_or_a_layout(call: Callable[[], Any], what: str) -> None:
    assert what in said(call)


def test_a_view_that_a_batch_does_not_have_is_answered_with_those_it_has(stream: Stream) -> None:
    batch = next(iter(Loader(stream, "cpu", {"query": None, "key": None})))
    assert {"query", "key"} <= set(dir(batch))
    with pytest.raises(AttributeError, match="no view 'qury'; it has: query, key"):
        batch.qury  # noqa: B018


def test_layouts_by_name_are_the_layouts() -> None:
    kinect = Layout.named("kinect-v2-25")
    assert repr(chain("aimclr-extreme", layout="kinect-v2-25")) == repr(chain("aimclr-extreme", layout=kinect))
    assert len(kinect) == 25


def test_whole_numbers_of_any_type_are_taken_and_nothing_else() -> None:
    assert whole_number(np.int32(3), "n") == 3
    assert row_numbers(np.array([1, 2], np.uint8)).tolist() == [1, 2]
    assert row_numbers([]).dtype == np.int64
    for wrong in (True, 2.0, "2", None, [2]):
        with pytest.raises(UsageError, match="n is .*; it must be a whole number, at least 1"):
            whole_number(wrong, "n", 1)


def test_what_was_given_is_told_shortly() -> None:
    assert given(Crop) == "the class Crop"
    assert given(Crop()) == "a Crop"
    assert given([1]) == "a list"
    assert given(object()) == "an object"
    assert len(given("x" * 1000)) <= 60
