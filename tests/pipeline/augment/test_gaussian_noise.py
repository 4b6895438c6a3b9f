"""Gaussian noise against its definition for one clip, and absent bodies."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.noise_pool import window
from skelpipe.errors import UsageError

SHAPES = st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 12), st.sampled_from([20, 25]), st.integers(1, 3))


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.integers(0, 99), st.booleans())
def test_noise_adds_scaled_numbers_of_the_pool(shape: tuple[int, ...], seed: int, empty: bool) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x[0, ..., shape[4] - 1] = 0  # a body that is absent
    noise = GaussianNoise(0.05, probability=0.7, empty=empty)
    params = noise.sample(Draws(seed, 0, torch.arange(shape[0])), shape)
    got = noise.apply(x, params)
    fields = window("gaussian", params["start"], x[0].numel()).double().view(shape).numpy()
    for clip, scale, field, y in zip(
        x.double().numpy(), params["scale"].tolist(), fields, got.numpy(), strict=True
    ):
        expected = clip.copy()
        for m in range(shape[4]):
            if empty or np.any(clip[..., m] != 0):
                expected[..., m] += scale * field[..., m]
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)
        assert scale in (0.0, pytest.approx(0.05))


def test_a_body_seen_in_one_number_is_there() -> None:
    x = torch.zeros(2, 3, 8, 25, 2)
    x[0, 1, 5, 7, 1] = -1e-30
    params = {"scale": torch.tensor([0.1, 0.1]), "start": torch.tensor([0, 9])}
    y = GaussianNoise(0.1).apply(x, params)
    assert (y[0, ..., 0] == 0).all()
    assert (y[0, ..., 1] != 0).all()
    assert (y[1] == 0).all()
    assert (GaussianNoise(0.1, empty=True).apply(x, params) != 0).all()


def test_cancelling_numbers_do_not_hide_a_body() -> None:
    x = torch.zeros(1, 3, 2, 25, 2)
    x[0, :, 0, :, 1], x[0, :, 1, :, 1] = 1, -1
    y = GaussianNoise(0.1).apply(x, {"scale": torch.tensor([0.1]), "start": torch.tensor([5])})
    assert (y[..., 1] != x[..., 1]).all()


def test_added_noise_has_the_stated_spread(draws: Callable[..., Draws], agrees: Callable[..., None]) -> None:
    x = torch.ones(64, 3, 8, 25, 2)
    noise = GaussianNoise(0.05, probability=1.0)
    y = noise.apply(x, noise.sample(draws(64), x.shape)) - 1
    agrees(y, scipy.stats.norm(0, 0.05).cdf)
    on = GaussianNoise().sample(draws(20_000), x.shape)["scale"] > 0
    assert scipy.stats.binomtest(int(on.sum()), 20_000, 0.5).pvalue > 1e-4


def test_noise_of_no_strength_changes_nothing(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x = clips()
    for off in (GaussianNoise(0.0), GaussianNoise(0.3, probability=0)):
        assert torch.equal(off.apply(x, off.sample(draws(6), x.shape)), x)


def test_apply_leaves_its_input_alone(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x, op = clips(), GaussianNoise(probability=1.0)
    before = x.clone()
    params = op.sample(draws(6), x.shape)
    y = op.apply(x, params)
    assert torch.equal(x, before)
    assert torch.equal(op.change(x.clone(), params), y)
    sliced = x[..., :1]
    small = op.sample(draws(6), sliced.shape)
    assert torch.equal(op.apply(sliced, small), op.apply(sliced.contiguous(), small))


def test_bfloat16_stays_close(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x, op = clips(alone=(0, 3)).bfloat16(), GaussianNoise(0.05, probability=1.0)
    params = op.sample(draws(6), x.shape)
    y = op.apply(x, params)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), op.apply(x.float(), params), rtol=0.02, atol=0.02)


def test_gradients_flow_past_noise(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x = clips(alone=(1,)).requires_grad_()
    noise = GaussianNoise(probability=1.0)
    (gradient,) = torch.autograd.grad(noise.apply(x, noise.sample(draws(6), x.shape)).sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="must be 0"):
        GaussianNoise(-1)
