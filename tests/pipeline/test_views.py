"""Views against their definition, entry by entry, on numpy arrays and torch tensors."""

import numpy as np
import pytest
import torch

from skelpipe.errors import UsageError
from skelpipe.skeleton import layout
from skelpipe.views import derive

KINECT = layout("kinect-v2-25")
# (child, parent), counted from 1 as in published code (docs/conventions.md)
PAIRS = [(1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11)]
PAIRS += [(13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (21, 21)]
PAIRS += [(22, 23), (23, 8), (24, 25), (25, 12)]


def clips() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 3, 6, 25, 2)).astype(np.float32)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_definitions(kind) -> None:
    x = clips()
    bone, motion = np.zeros_like(x), np.zeros_like(x)
    for child, parent in PAIRS:
        bone[..., child - 1, :] = x[..., child - 1, :] - x[..., parent - 1, :]
    for t in range(5):
        motion[:, :, t] = x[:, :, t + 1] - x[:, :, t]
    assert np.array_equal(derive(kind(x), "joint", KINECT), x)
    assert np.array_equal(derive(kind(x), "bone", KINECT), bone)
    assert np.array_equal(derive(kind(x), "motion", KINECT), motion)
    assert type(derive(kind(x), "bone", KINECT)) is type(kind(x))


def test_properties() -> None:
    x = clips()
    shift = np.array([1, -2, 3], np.float32)[:, None, None, None]
    np.testing.assert_allclose(derive(x + shift, "bone", KINECT), derive(x, "bone", KINECT), atol=1e-6)
    still = np.repeat(x[:, :, :1], 6, axis=2)
    assert not derive(still, "motion", KINECT).any()
    assert not derive(x, "bone", KINECT)[..., 20, :].any()
    assert not derive(x, "motion", KINECT)[:, :, -1].any()


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_score_is_the_mean_of_the_two_it_is_made_of(kind) -> None:
    """As pyskl has it: positions are differences, a score is a mean, and motion ends with zeros."""
    x = np.concatenate([clips(), np.random.default_rng(1).random((2, 1, 6, 25, 2), np.float32)], axis=1)
    x[1, ..., 1] = 0  # an absent body
    bone, motion = np.zeros_like(x), np.zeros_like(x)
    for child, parent in [*PAIRS, (21, 21)]:
        bone[:, :3, :, child - 1] = x[:, :3, :, child - 1] - x[:, :3, :, parent - 1]
        bone[:, 3, :, child - 1] = (x[:, 3, :, child - 1] + x[:, 3, :, parent - 1]) / 2
    for t in range(5):
        motion[:, :3, t] = x[:, :3, t + 1] - x[:, :3, t]
        motion[:, 3, t] = (x[:, 3, t + 1] + x[:, 3, t]) / 2
    assert np.array_equal(derive(kind(x), "bone", KINECT), bone)
    assert np.array_equal(derive(kind(x), "motion", KINECT), motion)
    assert np.array_equal(bone[:, 3, :, 20], x[:, 3, :, 20])
    assert not bone[1, ..., 1].any()
    assert not motion[1, ..., 1].any()
    # Both are linear, so that anchors may be derived from the mean clip.
    for view in ("bone", "motion"):
        mean = np.asarray(derive(kind(x), view, KINECT)).mean(0)
        np.testing.assert_allclose(derive(kind(x.mean(0)), view, KINECT), mean, atol=1e-6)


def test_unknown_view() -> None:
    with pytest.raises(UsageError, match="joint, bone, motion"):
        derive(clips(), "velocity", KINECT)
