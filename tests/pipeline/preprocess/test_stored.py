"""Profile `stored`: copied bit for bit, or resized by the formula of docs/profiles.md."""

import numpy as np
import pytest

from skelpipe.preprocess import stored
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import layout

COCO = layout("coco-17")


def recording(array: np.ndarray, scores: np.ndarray | None = None) -> Recording:
    """Return an array [T,M,V,3] with all bodies present."""
    frames, bodies = array.shape[:2]
    ids = np.tile(np.arange(bodies), frames)
    rows = None if scores is None else scores.reshape(-1, 17)
    return Recording(np.full(frames, bodies, np.int32), ids, array.reshape(-1, 17, 3), rows)


def test_equal_lengths_are_copied() -> None:
    array = np.random.default_rng(0).normal(size=(7, 2, 17, 3)).astype(np.float32)
    scores = np.random.default_rng(1).uniform(size=(7, 2, 17)).astype(np.float32)
    out = np.full((4, 7, 17, 3), 9, np.float32)
    assert stored(recording(array.astype(float), scores.astype(float)), COCO, 7, 3, out) == 0
    np.testing.assert_array_equal(out[:3, ..., :2], array.transpose(3, 0, 2, 1))
    np.testing.assert_array_equal(out[3, ..., :2], scores.transpose(0, 2, 1))
    assert not out[..., 2].any()


@pytest.mark.parametrize(("length", "frames"), [(5, 8), (8, 5), (1, 4), (9, 3)])
def test_other_lengths_are_resized(length: int, frames: int) -> None:
    array = np.random.default_rng(0).normal(size=(length, 1, 17, 3))
    out = np.empty((3, frames, 17, 1), np.float32)
    stored(recording(array), COCO, frames, 1, out)
    for i in range(frames):
        s = min(max((i + 0.5) * length / frames - 0.5, 0), length - 1)
        f = int(np.floor(s))
        wanted = (1 - (s - f)) * array[f, 0] + (s - f) * array[min(f + 1, length - 1), 0]
        np.testing.assert_allclose(out[:, i, :, 0].T, wanted, atol=1e-6)


def test_bodies_beyond_the_slots_are_counted_and_left_out() -> None:
    array = np.random.default_rng(0).normal(size=(4, 3, 17, 3))
    out = np.empty((3, 4, 17, 2), np.float32)
    assert stored(recording(array), COCO, 4, 2, out) == 1
    np.testing.assert_array_equal(out, array[:, :2].transpose(3, 0, 2, 1).astype(np.float32))
