"""Rotation against its definition for one clip, point by point in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.rotate import Rotate

SHAPES = st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 20), st.sampled_from([20, 25]), st.integers(1, 3))


def naive_rotate(clip: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """About x, then y, then z, point by point."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    out = np.empty(clip.shape)
    for place in np.ndindex(clip.shape[1:]):
        out[(slice(None), *place)] = about_z @ (about_y @ (about_x @ clip[(slice(None), *place)]))
    return out


def random(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@settings(max_examples=15, deadline=None)
@given(SHAPES, st.integers(0, 99))
def test_rotation_is_about_x_then_y_then_z(shape: tuple[int, ...], seed: int) -> None:
    x, rotate = random(shape), Rotate(60, 40)
    params = rotate.sample(Draws(seed, 0, torch.arange(shape[0])), shape)
    got = rotate.apply(x, params).numpy()
    for clip, angle, y in zip(x.numpy(), params["angle"].double().numpy(), got, strict=True):
        np.testing.assert_allclose(y, naive_rotate(clip.astype(np.float64), angle), rtol=0, atol=3e-6)


def test_rotations_are_orthonormal_and_keep_distances(clips: Callable[..., Tensor], many: Draws) -> None:
    matrix = Rotate(180, 90).sample(many, (len(many), 3, 1, 1, 1))["matrix"].double()
    eye = torch.eye(3).double()
    assert (matrix @ matrix.mT - eye).abs().max() < 1e-6
    assert (torch.linalg.det(matrix) - 1).abs().max() < 1e-6
    x = clips()
    params = Rotate().sample(Draws(0, 0, torch.arange(6)), x.shape)
    y = Rotate().apply(x, params)
    torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1), rtol=1e-5, atol=1e-5)


def test_rotation_of_no_degrees_changes_nothing(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x, off = clips(), Rotate(0, 0)
    assert torch.equal(off.apply(x, off.sample(draws(6), x.shape)), x)


def test_one_axis_is_the_main_one(many: Draws, agrees: Callable[..., None]) -> None:
    angle = Rotate().sample(many, (len(many), 3, 1, 1, 1))["angle"].rad2deg()
    assert angle.min() >= 0
    for i in range(3):  # a third of the draws from U(0,30), two thirds from U(0,1)
        agrees(angle[:, i], lambda a: (np.clip(a / 30, 0, 1) + 2 * np.clip(a, 0, 1)) / 3)
    assert ((angle > 1.001).sum(1) <= 1).all()
    counts = [(angle[:, i] > 1.001).sum().item() for i in range(3)]
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_clips_of_other_axes_are_refused(draws: Callable[..., Draws]) -> None:
    with pytest.raises(ValueError, match="x, y, z"):
        Rotate().sample(draws(2), (2, 2, 4, 25, 2))


def test_gradients_flow_through(draws: Callable[..., Draws]) -> None:
    x, op = random((3, 3, 2, 25, 2)).double().requires_grad_(), Rotate()
    params = op.sample(draws(3), x.shape)
    (gradient,) = torch.autograd.grad(op.apply(x, params).square().sum(), x)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    y = op.apply(x, params).detach()
    torch.testing.assert_close((gradient * x).sum(), 2 * y.square().sum())  # the gradient of a linear map
