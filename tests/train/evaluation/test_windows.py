"""Windows over untrimmed videos."""

from collections.abc import Callable

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError
from skelpipe.preprocess import crosclr
from skelpipe.raw import Recording
from skelpipe.skeleton import layout
from skelpipe.train.evaluation.windows import Windows
from skelpipe.views import derive

FRAMES = 10  # of a clip


TWO_BODIES = slice(60, 100)  # frames that show a second body


def window_by_hand(frame: int, frames: int, length: int) -> list[int]:
    """The frames of the window around one: walk outwards, and move back in where the video ends."""
    window = list(range(frame - length // 2, frame - length // 2 + length))
    while window[-1] >= frames and window[0] > 0:
        window = [f - 1 for f in window]
    while window[0] < 0:
        window = [f + 1 for f in window]
    return [f for f in window if f < frames]


def clip_by_hand(video: np.ndarray, chosen: list[int]) -> np.ndarray:
    piece = video[chosen]
    counts = np.array([2 if f in range(TWO_BODIES.start, TWO_BODIES.stop) else 1 for f in chosen], np.int32)
    bodies = np.concatenate([frame[:count] for frame, count in zip(piece, counts, strict=True)])
    out = np.empty((3, FRAMES, 25, 2), np.float32)
    recording = Recording(counts, np.zeros(len(bodies), np.int64), bodies)
    crosclr(recording, layout("kinect-v2-25"), FRAMES, 2, out)
    return out


@pytest.mark.parametrize("length", [64, 15])
def test_the_window_of_every_frame(
    untrimmed: Dataset, length: int, truth: Callable[[int], list[int]], positions: Callable[[int, int], np.ndarray]
) -> None:
    windows = Windows(untrimmed, "test", "joint", length)
    assert windows.ids == ["0291-M", "0292-L"]
    assert len(windows) == 260
    assert windows.labels.tolist() == truth(220) + truth(40)
    assert windows.names()[0] == "0291-M:1"
    assert windows.names()[-1] == "0292-L:40"
    rows = np.array([0, 5, 31, 32, 70, 100, 187, 188, 219, 220, 240, 259])
    clips = windows.clips(rows).numpy()
    middles = windows.middles(rows)
    for row, clip, middle in zip(rows.tolist(), clips, middles.tolist(), strict=True):
        seed, frames, first = (3, 220, 0) if row < 220 else (4, 40, 220)
        chosen = window_by_hand(row - first, frames, length)
        assert len(chosen) == min(length, frames)
        np.testing.assert_allclose(clip, clip_by_hand(positions(seed, frames), chosen), atol=2e-5)
        assert middle - first == chosen[len(chosen) // 2]
    inside = rows[(rows >= 32) & (rows <= 187)]
    assert windows.middles(inside).tolist() == inside.tolist()


@pytest.mark.parametrize("view", ["bone", "motion"])
def test_windows_of_other_views(untrimmed: Dataset, view: str) -> None:
    rows = np.array([3, 80, 230])
    joint = Windows(untrimmed, "test", "joint").clips(rows)
    found = Windows(untrimmed, "test", view).clips(rows)
    np.testing.assert_array_equal(found.numpy(), derive(joint.numpy(), view, untrimmed.layout))


def test_draws_are_even_repeatable_and_new_in_every_epoch(untrimmed: Dataset) -> None:
    windows = Windows(untrimmed, "train", "joint", 2)
    drawn = windows.draw(20_000, seed=1, epoch=3)
    assert drawn.tolist() == windows.draw(20_000, seed=1, epoch=3).tolist()
    assert drawn.tolist() != windows.draw(20_000, seed=1, epoch=4).tolist()
    assert drawn.tolist() != windows.draw(20_000, seed=2, epoch=3).tolist()
    ends = [230, 435, 675]
    assert [int((drawn < end).sum()) for end in ends] == [20_000, 40_000, 60_000]  # as many of each video
    assert set(drawn.tolist()) == set(windows.middles(np.arange(675)).tolist())
    halves = (drawn[:20_000] < 115).mean()
    assert abs(halves - 0.5) < 0.02


@pytest.mark.parametrize("stride", [1, 7, 300])
def test_a_stride_takes_the_middle_of_each_block(untrimmed: Dataset, stride: int) -> None:
    rows, which = Windows(untrimmed, "test", "joint").spread(stride)
    expected, block_of = [], []
    for first, frames in ((0, 220), (220, 40)):
        for start in range(0, frames, stride):
            block = list(range(start, min(start + stride, frames)))
            block_of += [len(expected)] * len(block)
            expected.append(first + block[len(block) // 2])
    assert rows.tolist() == expected
    assert which.tolist() == block_of


def test_a_subset_without_videos_is_an_error(untrimmed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = {"videos": 0, "frames": 0, "shards": []}
    monkeypatch.setitem(untrimmed.card["untrimmed"], "train", empty)
    with pytest.raises(DatasetError, match="no untrimmed video in the train subset"):
        Windows(untrimmed, "train", "joint")
