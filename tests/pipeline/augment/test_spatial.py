"""Rotation, axis mask and spatial flip against spec B written out for one clip in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.spatial import AxisMask, Rotate, SpatialFlip
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout, layout

SHAPES = st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 20), st.sampled_from([20, 25]), st.integers(1, 3))
LAYOUTS = {20: "kinect-v1-20", 25: "kinect-v2-25"}


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
    assert stats.chisquare(counts).pvalue > 1e-4


@settings(max_examples=15, deadline=None)
@given(SHAPES, st.integers(0, 99))
def test_axis_mask_zeroes_its_axis(shape: tuple[int, ...], seed: int) -> None:
    x = random(shape)
    params = AxisMask().sample(Draws(seed, 0, torch.arange(shape[0])), shape)
    got = AxisMask().apply(x, params)
    for clip, keep, y in zip(x.numpy(), params["keep"].numpy(), got.numpy(), strict=True):
        assert sorted(keep)[1:] == [1, 1]
        for c in range(3):
            np.testing.assert_array_equal(y[c], clip[c] if keep[c] == 1 else np.zeros_like(clip[c]))
    assert torch.equal(AxisMask().apply(got, params), got)


def test_each_axis_is_masked_as_often(many: Draws) -> None:
    keep = AxisMask().sample(many, (len(many), 3, 1, 1, 1))["keep"]
    masked = (keep == 0).sum(0).tolist()
    observed = [*masked, len(many) - sum(masked)]
    assert stats.chisquare(observed, np.array([1, 1, 1, 3]) / 6 * len(many)).pvalue > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_spatial_flip_reads_the_mirrored_joints(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> None:
    skeleton = layout(LAYOUTS[shape[3]])
    x, flip = (random(shape) * 100).to(dtype), SpatialFlip(skeleton)
    params = flip.sample(Draws(seed, 0, torch.arange(shape[0])), shape)
    got = flip.apply(x, params)
    for clip, on, y in zip(x, params["on"].tolist(), got, strict=True):
        for v in range(shape[3]):
            assert torch.equal(y[:, :, v], clip[:, :, skeleton.mirror[v] if on else v])
    assert torch.equal(flip.apply(got, params), x)  # twice is nothing


def test_spatial_flip_follows_the_table_of_kinect(kinect: Layout) -> None:
    order = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22]
    assert SpatialFlip(kinect).joints({"on": torch.tensor([True])}, 25).tolist() == [order]


def test_spatial_flip_of_a_part_of_a_buffer(kinect: Layout) -> None:
    x = random((7, 3, 5, 25, 2))
    params = {"on": torch.tensor([True, False, True])}
    whole = SpatialFlip(kinect).apply(x[2:5].clone(), params)
    assert torch.equal(SpatialFlip(kinect).apply(x[2:5], params), whole)
    odd = x.view(-1)[1:1501].view(2, 3, 5, 25, 2)  # starts in the middle of a pair
    params = {"on": torch.tensor([True, True])}
    assert torch.equal(SpatialFlip(kinect).apply(odd, params), SpatialFlip(kinect).apply(odd.clone(), params))


def test_half_of_the_clips_are_flipped(many: Draws, kinect: Layout) -> None:
    on = SpatialFlip(kinect).sample(many, (len(many), 3, 1, 25, 1))["on"]
    assert stats.binomtest(int(on.sum()), len(many), 0.5).pvalue > 1e-4


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_gates_close_and_open(probability: float, kinect: Layout, draws: Callable[..., Draws]) -> None:
    shape = (50, 3, 4, 25, 2)
    on = SpatialFlip(kinect, probability).sample(draws(50), shape)["on"]
    keep = AxisMask(probability).sample(draws(50), shape)["keep"]
    assert on.float().mean() == probability
    assert ((keep == 0).any(1)).float().mean() == probability


@pytest.mark.parametrize("make", [AxisMask, lambda p: SpatialFlip(layout("kinect-v2-25"), p)])
def test_impossible_probabilities_are_refused(make: Any) -> None:
    for probability in (-0.1, 1.1):
        with pytest.raises(UsageError, match="between 0 and 1"):
            make(probability)


def test_clips_that_do_not_fit_are_refused(kinect: Layout, draws: Callable[..., Draws]) -> None:
    with pytest.raises(ValueError, match="x, y, z"):
        Rotate().sample(draws(2), (2, 2, 4, 25, 2))
    with pytest.raises(ValueError, match="kinect-v2-25"):
        SpatialFlip(kinect).apply(random((2, 3, 4, 20, 1)), {"on": torch.tensor([True, True])})
    with pytest.raises(ValueError, match="does not fit"):
        SpatialFlip(kinect).apply(random((3, 3, 4, 25, 1)), {"on": torch.tensor([True, True])})
    with pytest.raises(ValueError, match="do not fit"):
        AxisMask().apply(random((3, 3, 4, 25, 1)), {"keep": torch.ones(2, 3)})


def test_gradients_flow_through(kinect: Layout, draws: Callable[..., Draws]) -> None:
    x = random((3, 3, 2, 25, 2)).double().requires_grad_()
    for op in (Rotate(), AxisMask(1.0), SpatialFlip(kinect, 1.0)):
        params = op.sample(draws(3), x.shape)
        (gradient,) = torch.autograd.grad(op.apply(x, params).square().sum(), x)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0
        y = op.apply(x, params).detach()
        torch.testing.assert_close((gradient * x).sum(), 2 * y.square().sum())  # the gradient of a linear map
