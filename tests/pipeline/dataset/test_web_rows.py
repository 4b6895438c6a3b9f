"""Rows of whole shards: which are read, and how many are held."""

import numpy as np
import pytest

from skelpipe.dataset import web_rows
from skelpipe.dataset.web_rows import WebRows, shards_at_once
from skelpipe.errors import DatasetError

SIZES = np.array([3, 2, 4])
CLIPS = np.random.default_rng(0).normal(size=(9, 3, 4, 5, 1)).astype(np.float32)


class Shards:
    """The samples of three shards; `asked` are those that were read."""

    def __init__(self, lost: int | None = None) -> None:
        self.asked: list[int] = []
        self.lost = lost

    def __call__(self, shards):
        self.asked += shards
        for shard in shards:
            first = int(SIZES[:shard].sum())
            for row in range(first, first + int(SIZES[shard])):
                if row != self.lost:
                    yield {"index": row, "joint.npy": CLIPS[row]}


def test_rows_in_any_order() -> None:
    rows = WebRows(Shards(), SIZES, CLIPS.shape[1:], "joint", None)
    wanted = np.array([8, 0, 4, 4, 3, 2, 7])
    out = np.full((7, *CLIPS.shape[1:]), np.nan, np.float32)
    assert rows.gather(wanted, out) is out
    assert np.array_equal(out, CLIPS[wanted])
    assert len(rows) == 9
    assert rows.gather(np.zeros(0, np.int64)).shape == (0, 3, 4, 5, 1)
    for row in (-1, 9):
        with pytest.raises(IndexError, match="from 0 to 8"):
            rows.gather(np.array([row]))


def test_two_windows_are_held_at_most() -> None:
    shards = Shards()
    rows = WebRows(shards, SIZES, CLIPS.shape[1:], "joint", 1)
    for row in (0, 1, 3, 2, 4, 5, 8, 0):
        assert np.array_equal(rows.gather(np.array([row]))[0], CLIPS[row])
        assert len(rows._held) <= 2
    assert shards.asked == [0, 1, 2, 0]
    assert np.array_equal(rows.gather(np.arange(9)), CLIPS)  # more at once than are held


def test_all_are_held_where_they_fit() -> None:
    shards = Shards()
    rows = WebRows(shards, SIZES, CLIPS.shape[1:], "joint", None)
    for _ in range(2):
        rows.gather(np.arange(9))
    assert shards.asked == [0, 1, 2]


def test_a_sample_that_is_missing() -> None:
    with pytest.raises(DatasetError, match="shard 1 has 1 samples, 2 are expected"):
        WebRows(Shards(lost=4), SIZES, CLIPS.shape[1:], "joint", None).gather(np.arange(9))


def test_shards_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (3, 4, 5, 1)
    assert shards_at_once(SIZES, shape) is None
    for clips, wanted in [(9, None), (8, 2), (4, 1), (1, 1)]:
        monkeypatch.setattr(web_rows, "WINDOW_BYTES", clips * 4 * 60)
        assert shards_at_once(SIZES, shape) == wanted
