"""The temporal convolution, direct and transformed, against sums in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.models.temporal import TemporalConvolution, bilinear_form


@given(frames=st.integers(1, 40), half=st.integers(0, 5), seed=st.integers(0, 99))
def test_bilinear_form_is_the_padded_sum(frames: int, half: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=frames), rng.normal(size=2 * half + 1)
    expected = [
        sum(w[k] * x[t + k - half] for k in range(len(w)) if 0 <= t + k - half < frames) for t in range(frames)
    ]
    enter, filters, leave = (matrix.numpy() for matrix in bilinear_form(frames, len(w)))
    assert np.allclose(leave @ ((filters @ w) * (enter @ x)), expected, atol=1e-12)


def reference(x: Tensor, convolution: TemporalConvolution) -> Tensor:
    """Tap by tap, in float64: [R, T, V, C]."""
    weight, bias = convolution.weight.double(), convolution.bias
    stride = convolution.stride[0]
    padded = F.pad(x.double(), (0, 0, 0, 0, 4, 4))
    taps = [padded[:, k : k + x.shape[1] : 1][:, ::stride] @ weight[:, :, k, 0].T for k in range(9)]
    assert bias is not None
    return sum(taps, torch.zeros(())) + bias.double()


@pytest.mark.parametrize(
    ("channels", "frames", "stride", "transformed"),
    [
        (64, 13, 1, True),
        (32, 25, 1, True),
        (256, 16, 1, True),
        (64, 1, 1, True),
        (16, 50, 1, False),
        (32, 33, 1, False),
        (64, 25, 2, False),
        (32, 8, 2, False),
    ],
)
def test_matches_float64_with_gradients(channels: int, frames: int, stride: int, transformed: bool) -> None:
    torch.manual_seed(0)
    convolution = TemporalConvolution(channels, stride)
    x = torch.randn(3, frames, 5, channels, requires_grad=True)
    assert convolution._gains_from_transform(x) == transformed
    expected = reference(x, convolution)
    found = convolution(x)
    assert found.shape == (3, (frames - 1) // stride + 1, 5, channels)
    assert torch.allclose(found.double(), expected, atol=1e-5)

    push = torch.randn_like(found)
    wrt = [x, convolution.weight, convolution.bias]
    exact = torch.autograd.grad(expected, wrt, push.double())
    for gradient, wanted in zip(torch.autograd.grad(found, wrt, push), exact, strict=True):
        assert (gradient - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max()))


def test_float64_is_exact_to_rounding() -> None:
    convolution = TemporalConvolution(64).double()
    x = torch.randn(2, 13, 3, 64, dtype=torch.float64)
    assert convolution._gains_from_transform(x)
    assert (convolution(x) - reference(x, convolution)).abs().max() < 1e-12


def test_direct_under_autocast() -> None:
    convolution = TemporalConvolution(64)
    x = torch.randn(2, 13, 3, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not convolution._gains_from_transform(x)
        found = convolution(x)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.double(), reference(x, convolution), atol=0.05)


def test_training_after_inference_mode() -> None:
    convolution = TemporalConvolution(64)
    x = torch.randn(1, 11, 2, 64, requires_grad=True)  # a length no other test uses
    with torch.inference_mode():
        convolution(x)
    convolution(x).sum().backward()
    assert x.grad is not None
