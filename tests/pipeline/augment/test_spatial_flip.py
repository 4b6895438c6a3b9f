"""Spatial flip against its definition for one clip, joint by joint."""

from collections.abc import Callable

import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout, layout

SHAPES = st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 20), st.sampled_from([20, 25]), st.integers(1, 3))
LAYOUTS = {20: "kinect-v1-20", 25: "kinect-v2-25"}


def random(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


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
    assert torch.equal(flip.apply(got, params), x)  # twice gives the clip back


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
    assert scipy.stats.binomtest(int(on.sum()), len(many), 0.5).pvalue > 1e-4


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_gates_close_and_open(probability: float, kinect: Layout, draws: Callable[..., Draws]) -> None:
    on = SpatialFlip(kinect, probability).sample(draws(50), (50, 3, 4, 25, 2))["on"]
    assert on.float().mean() == probability


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_impossible_probabilities_are_refused(probability: float, kinect: Layout) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        SpatialFlip(kinect, probability)


def test_clips_that_do_not_fit_are_refused(kinect: Layout) -> None:
    with pytest.raises(ValueError, match="kinect-v2-25"):
        SpatialFlip(kinect).apply(random((2, 3, 4, 20, 1)), {"on": torch.tensor([True, True])})
    with pytest.raises(ValueError, match="does not fit"):
        SpatialFlip(kinect).apply(random((3, 3, 4, 25, 1)), {"on": torch.tensor([True, True])})


def test_gradients_flow_through(kinect: Layout, draws: Callable[..., Draws]) -> None:
    x, op = random((3, 3, 2, 25, 2)).double().requires_grad_(), SpatialFlip(kinect, 1.0)
    params = op.sample(draws(3), x.shape)
    (gradient,) = torch.autograd.grad(op.apply(x, params).square().sum(), x)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    y = op.apply(x, params).detach()
    torch.testing.assert_close((gradient * x).sum(), 2 * y.square().sum())  # the gradient of a linear map
