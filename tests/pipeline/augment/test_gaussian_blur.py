"""Gaussian blur against its sum written out for one clip in float64."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.errors import UsageError


def naive_blur(clip: np.ndarray, sigma: float, normalise: bool) -> np.ndarray:
    weights = {k: math.exp(-(k**2) / (2 * sigma**2)) for k in range(-7, 8)}
    total = sum(weights.values()) if normalise else 1.0
    out = np.zeros(clip.shape)
    for t in range(clip.shape[1]):
        for k, weight in weights.items():
            if 0 <= t + k < clip.shape[1]:  # zeros beyond the ends
                out[:, t] += weight / total * clip[:, t + k]
    return out


@pytest.mark.parametrize("normalise", [True, False])
@settings(max_examples=20, deadline=None)
@given(t=st.integers(1, 60), v=st.sampled_from([1, 20, 25]), m=st.integers(1, 2), seed=st.integers(0, 99))
def test_blur_is_its_sum(t: int, v: int, m: int, seed: int, normalise: bool) -> None:
    blur = GaussianBlur(probability=0.7, normalise=normalise)
    x = torch.randn(3, 3, t, v, m, generator=torch.Generator().manual_seed(seed))
    params = blur.sample(Draws(seed, 0, torch.arange(3)), x.shape)
    got = blur.apply(x, params).numpy()
    for clip, sigma, on, y in zip(
        x.double().numpy(), params["sigma"].tolist(), params["on"].tolist(), got, strict=True
    ):
        if on:
            np.testing.assert_allclose(y, naive_blur(clip, sigma, normalise), rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(y, clip.astype(np.float32))


def test_blur_of_a_long_clip() -> None:
    x = torch.randn(1, 3, 300, 4, 1, generator=torch.Generator().manual_seed(0))
    y = GaussianBlur().apply(x, {"on": torch.tensor([True]), "sigma": torch.tensor([1.5])})
    np.testing.assert_allclose(y[0].numpy(), naive_blur(x[0].double().numpy(), 1.5, True), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("sigma", "gain"), [(0.1, 1.00), (0.5, 1.27), (1.0, 2.51), (2.0, 5.01)])
def test_gains(sigma: float, gain: float) -> None:
    x = torch.ones(1, 3, 40, 5, 2)
    params = {"on": torch.tensor([True]), "sigma": torch.tensor([sigma])}
    released = GaussianBlur(normalise=False).apply(x, params)
    assert released[0, 0, 20, 0, 0].item() == pytest.approx(gain, abs=0.005)
    assert released[:, :, 7:-7].std() < 1e-6
    paper = GaussianBlur().apply(x, params)
    torch.testing.assert_close(paper[:, :, 7:-7], x[:, :, 7:-7], rtol=0, atol=1e-6)  # a constant stays one
    assert (paper <= 1 + 1e-6).all()


def test_all_rows_at_once_would_give_the_same(clips: Callable[..., Tensor]) -> None:
    """Where a gate is not read, every row is convolved: the kernel of a closed gate is a single 1."""
    x, blur = clips(5, 30), GaussianBlur()
    on = torch.tensor([True, False, True, True, False])
    kernel = blur.kernel({"on": on, "sigma": torch.full((5,), 0.8)})
    assert kernel.shape == (5, 15)
    assert kernel[1].tolist() == [0.0] * 7 + [1.0] + [0.0] * 7
    torch.testing.assert_close(kernel.sum(1), torch.ones(5))
    assert torch.equal(kernel, kernel.flip(1))
    assert not torch.equal(blur.apply(x, {"on": on, "sigma": torch.full((5,), 0.8)})[0], x[0])


def test_draws_follow_their_distributions(many: Draws, agrees: Callable[..., None]) -> None:
    params = GaussianBlur().sample(many, (len(many), 3, 50, 25, 2))
    assert scipy.stats.binomtest(int(params["on"].sum()), len(many), 0.5).pvalue > 1e-4
    agrees(params["sigma"], scipy.stats.uniform(0.1, 1.9).cdf)
    agrees(params["sigma"][params["on"]], scipy.stats.uniform(0.1, 1.9).cdf)


def test_empty_bodies_stay_empty(clips: Callable[..., Tensor]) -> None:
    x = clips(4, 30, alone=(0, 1, 2, 3))
    params = {"on": torch.ones(4, dtype=torch.bool), "sigma": torch.linspace(0.1, 2, 4)}
    assert (GaussianBlur().apply(x, params)[..., 1] == 0).all()


def test_gradients_flow_through(clips: Callable[..., Tensor]) -> None:
    x = clips(2, 9, 2, 1).double().requires_grad_()
    params = {"on": torch.tensor([True, False]), "sigma": torch.tensor([1.0, 1.0])}
    assert torch.autograd.gradcheck(lambda a: GaussianBlur().apply(a, params), (x,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: torch.dtype, clips: Callable[..., Tensor]) -> None:
    x = clips(3, 30).to(dtype)
    params = {"on": torch.tensor([True, True, False]), "sigma": torch.tensor([0.4, 2.0, 1.0])}
    blur = GaussianBlur()
    assert torch.equal(blur.apply(x, params), blur.apply(x.float(), params).to(dtype))
    with torch.autocast("cpu", torch.bfloat16):
        under = blur.apply(x.float(), params)
    assert torch.equal(under, blur.apply(x.float(), params))


def test_impossible_settings_are_refused() -> None:
    for low, high in ((0, 1), (2, 1)):
        with pytest.raises(UsageError, match="sigma"):
            GaussianBlur(low, high)


def test_nothing_is_blurred_into_nothing() -> None:
    x = torch.empty(0, 3, 12, 25, 2)
    params = GaussianBlur().sample(Draws(0, 0, torch.arange(0)), x.shape)
    assert GaussianBlur().apply(x, params).shape == x.shape
