"""Fixtures for streams and loaders: a dataset in memory, and the law every resumable iterator must keep."""

import json
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelpipe.skeleton import layout


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "skelpipe-loader"]


@pytest.fixture
def threads() -> Iterator[Callable[[], list[threading.Thread]]]:
    """The loaders' threads that run at present, on call; none may be left when the test ends."""
    yield loader_threads
    assert loader_threads() == []


class MemoryReader:
    """Rows of an array; counts and can be told to fail on a row."""

    def __init__(self, clips: np.ndarray) -> None:
        self.clips = clips
        self.gathers = 0
        self.broken_row = -1

    def __len__(self) -> int:
        return len(self.clips)

    def mapped(self, rows: np.ndarray) -> None:
        """Say that every clip has to be gathered."""

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        self.gathers += 1
        if self.broken_row in rows:
            raise OSError(5, "Input/output error", "train/joint/000000.tar")
        if out is None:
            return self.clips[rows]
        assert out.shape == (len(rows), *self.clips.shape[1:])
        out[:] = self.clips[rows]
        return out


class MemoryDataset:
    """What a stream needs of a dataset, with clips that name their row: clip i of the joint view starts at i."""

    def __init__(self, shard_sizes: list[int], shape: tuple[int, int, int, int] = (3, 8, 25, 2)) -> None:
        self.path = Path("data/memory")
        self.digest = f"digest-of-{shard_sizes}"
        self.shape = shape
        self.views = ("joint", "motion")
        self.layout = layout("kinect-v2-25")
        self.sizes = np.array(shard_sizes, np.int64)
        count = int(self.sizes.sum())
        rng = np.random.default_rng(7)
        self._labels = rng.integers(0, 5, count)
        self.clips = {view: rng.normal(size=(count, *shape)).astype(np.float32) for view in self.views}
        self.clips["joint"][:, 0, 0, 0, 0] = np.arange(count)
        self.readers: dict[str, MemoryReader] = {}

    def shard_sizes(self, split: str) -> np.ndarray:
        return self.sizes

    def count(self, split: str) -> int:
        return int(self.sizes.sum())

    def labels(self, split: str) -> np.ndarray:
        return self._labels

    def reader(self, split: str, view: str) -> MemoryReader:
        self.readers[view] = MemoryReader(self.clips[view])
        return self.readers[view]


def _forever(source: Any) -> Iterator[Any]:
    while True:
        yield from source


def _resumes_exactly(make: Callable[[], Any], look: Callable[[Any], Any], cut: int, epochs: int = 3) -> None:
    """After `cut` batches a fresh iterator given the state yields what is left of `epochs` epochs, and no
    more of the epoch it stopped in than was left.

    `make` builds the iterator anew, `look` turns a batch into plain values that compare.
    """
    whole = make()
    expected = [[look(batch) for batch in whole] for _ in range(epochs)]
    flat = [seen for epoch in expected for seen in epoch]
    stopped = make()
    assert [look(batch) for batch in islice(_forever(stopped), cut)] == flat[:cut]
    state = json.loads(json.dumps(stopped.state()))
    assert stopped.state() == state, "the state is not plain values"
    resumed = make()
    resumed.load_state(state)
    assert resumed.state() == state
    rest = [look(batch) for batch in resumed]
    steps = len(expected[0])
    assert rest == expected[state["epoch"]][state["step"] :]
    rest += [look(batch) for _ in range(state["epoch"] + 1, epochs) for batch in resumed]
    assert rest == flat[cut:]
    assert resumed.state() == whole.state()
    assert len(whole) == steps


@pytest.fixture(scope="session")
def memory_dataset() -> type[MemoryDataset]:
    return MemoryDataset


@pytest.fixture(scope="session")
def resumes_exactly() -> Callable[..., None]:
    return _resumes_exactly
