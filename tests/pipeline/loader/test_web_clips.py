"""Webdataset as a reader of clips: the batches of the native one, bit for bit, at every position and rank."""

import numpy as np
import pytest
import torch

from skelpipe.augment.crop import Crop
from skelpipe.dataset import Dataset, web_rows
from skelpipe.errors import DatasetError, UsageError
from skelpipe.loader import Batch, Loader, Stream
from skelpipe.loader.web_clips import web_window


def batches(dataset: Dataset, reader: str, *, window, start=(0, 0), rank: int = 0, world: int = 1) -> list[Batch]:
    stream = Stream(dataset, "train", ["joint"], 5, seed=3, window=window, rank=rank, world=world)
    loader = Loader(stream, "cpu", {"query": Crop(), "key": None}, view="bone", reader=reader)
    stream.seek(*start)
    found = [batch for _ in range(2) for batch in loader]
    loader.close()
    return found


@pytest.mark.parametrize(("window", "start", "rank", "world"), [(None, (0, 0), 0, 1), (2, (1, 1), 1, 2)])
def test_batches_are_those_of_the_native_reader(folder, window, start, rank: int, world: int) -> None:
    dataset = Dataset.open(folder)
    native = batches(dataset, "native", window=window, start=start, rank=rank, world=world)
    found = batches(dataset, "webdataset", window=window, start=start, rank=rank, world=world)
    assert len(found) == len(native) > 2
    for ours, theirs in zip(found, native, strict=True):
        assert (ours.epoch, ours.step) == (theirs.epoch, theirs.step)
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.label, theirs.label)
        for name in ("query", "key"):
            assert torch.equal(ours.views[name], theirs.views[name])


def test_a_remote_dataset(web, folder) -> None:
    found = batches(Dataset.open(web), "webdataset", window=2)
    for ours, theirs in zip(found, batches(Dataset.open(folder), "native", window=2), strict=True):
        assert torch.equal(ours.views["query"], theirs.views["query"])


def test_the_window_follows_from_the_sizes(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.open(folder)
    assert web_window(dataset, "train") is None
    largest = int(dataset.shard_sizes("train").max()) * 4 * int(np.prod(dataset.shape))
    monkeypatch.setattr(web_rows, "WINDOW_BYTES", 2 * largest)
    assert web_window(dataset, "train") == 2


def test_what_has_no_tars_is_refused(folder) -> None:
    dataset = Dataset.open(folder)
    without = Dataset(folder, {**dataset.card, "formats": ["hdf5"]})
    with pytest.raises((DatasetError, UsageError)):
        batches(without, "webdataset", window=None)
