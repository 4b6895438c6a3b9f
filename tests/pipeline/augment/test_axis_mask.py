"""Axis mask against its definition for one clip."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.draws import Draws
from skelpipe.errors import UsageError

SHAPES = st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 20), st.sampled_from([20, 25]), st.integers(1, 3))


def random(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


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
    assert scipy.stats.chisquare(observed, np.array([1, 1, 1, 3]) / 6 * len(many)).pvalue > 1e-4


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_gates_close_and_open(probability: float, draws: Callable[..., Draws]) -> None:
    keep = AxisMask(probability).sample(draws(50), (50, 3, 4, 25, 2))["keep"]
    assert ((keep == 0).any(1)).float().mean() == probability


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_impossible_probabilities_are_refused(probability: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        AxisMask(probability)


def test_parameters_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        AxisMask().apply(random((3, 3, 4, 25, 1)), {"keep": torch.ones(2, 3)})


def test_gradients_flow_through(draws: Callable[..., Draws]) -> None:
    x, op = random((3, 3, 2, 25, 2)).double().requires_grad_(), AxisMask(1.0)
    params = op.sample(draws(3), x.shape)
    (gradient,) = torch.autograd.grad(op.apply(x, params).square().sum(), x)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    y = op.apply(x, params).detach()
    torch.testing.assert_close((gradient * x).sum(), 2 * y.square().sum())  # the gradient of a linear map
