"""EADM against eq. 3 and algorithm 1 written out element by element in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.models.aimclr import eadm, energy_attention, keep_masks

LAM = 1e-4


def maps(rows: int = 3, channels: int = 4, frames: int = 5, joints: int = 6, seed: int = 0) -> Tensor:
    """Feature maps as after a ReLU, in which some joints and frames stand out."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, channels, frames, joints, generator=generator, dtype=torch.float64)
    x[0, :, :, 2] += 2.5
    x[1, :, 3] += 2.5
    return x.relu()


def naive_attention(x: np.ndarray, unbiased: bool) -> np.ndarray:
    alpha = np.zeros_like(x)
    for r, c in np.ndindex(x.shape[:2]):
        neurons = x[r, c].ravel()
        mu = sum(neurons) / len(neurons)
        variance = sum((value - mu) ** 2 for value in neurons) / (len(neurons) - unbiased)
        for t, v in np.ndindex(x.shape[2:]):
            energy = 4 * (variance + LAM) / ((x[r, c, t, v] - mu) ** 2 + 2 * variance + 2 * LAM)
            alpha[r, c, t, v] = 1 / (1 + math.exp(-1 / energy))
    return alpha


def naive_kept(means: list[float], kappa: float, relative: bool) -> list[float]:
    if not relative:
        return [0.0 if mean >= kappa else 1.0 for mean in means]
    order = sorted(range(len(means)), key=lambda i: means[i])
    kept = order[: math.ceil(kappa * len(means))]
    return [1.0 if i in kept else 0.0 for i in range(len(means))]


def naive_eadm(x: np.ndarray, kappa: float, relative: bool, released: bool) -> tuple[np.ndarray, ...]:
    rows, _, frames, joints = x.shape
    alpha = naive_attention(x, released)
    spatial, temporal = np.ones((rows, joints)), np.ones(x.shape if released else (rows, frames))
    for r in range(rows):
        spatial[r] = naive_kept([alpha[r, :, :, v].mean() for v in range(joints)], kappa, relative)
        if not released:
            temporal[r] = naive_kept([alpha[r, :, t].mean() for t in range(frames)], kappa, relative)
    if released:
        temporal[alpha >= kappa] = 0
    y = x * spatial[:, None, None, :] * (spatial.size / spatial.sum())
    wide = temporal if released else temporal[:, None, :, None]
    return y * wide * (temporal.size / temporal.sum()), spatial, temporal


@pytest.mark.parametrize("unbiased", [False, True])
def test_attention(unbiased: bool) -> None:
    x = maps()
    alpha = energy_attention(x, LAM, unbiased=unbiased)
    np.testing.assert_allclose(alpha.numpy(), naive_attention(x.numpy(), unbiased), rtol=1e-12)


def test_what_attention_reaches() -> None:
    x = maps(channels=16, frames=9, joints=8)
    alpha = energy_attention(x)
    assert float(alpha.min()) >= 1 / (1 + math.exp(-0.5))
    assert float(alpha.mean(dim=(2, 3)).max()) <= 1 / (1 + math.exp(-0.75))  # sigmoid is concave there
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = x.var(dim=(2, 3), keepdim=True, correction=0)
    far = (x - mean) ** 2 >= 4 * (math.log(0.7 / 0.3) - 0.5) * (variance + LAM)
    assert torch.equal(alpha >= 0.7, far)
    assert 0 < float(far.double().mean()) < 0.5


@pytest.mark.parametrize(
    ("kappa", "relative", "released"),
    [(0.67, False, False), (0.7, True, False), (0.4, True, False), (0.67, False, True), (0.7, False, True)],
)
def test_drops_as_the_algorithm_does(kappa: float, relative: bool, released: bool) -> None:
    x = maps(channels=8)
    wanted, spatial, temporal = naive_eadm(x.numpy(), kappa, relative, released)
    assert 0 < temporal.mean() < 1  # something is dropped, something kept
    assert 0 < spatial.mean() < 1 or kappa == 0.7
    found = eadm(x, kappa, lam=LAM, relative=relative, released=released)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12, atol=1e-14)
    single = eadm(x.float(), kappa, lam=LAM, relative=relative, released=released)
    np.testing.assert_allclose(single.numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_the_scale_is_of_the_whole_batch() -> None:
    x = maps(rows=2, channels=8)
    x[1] = 1.0  # all alike: nothing of this row is dropped
    y = eadm(x, 0.67)
    dropped = (y[0] == 0) & (x[0] != 0)
    assert dropped.any()
    assert float((y[1] / x[1]).min()) == float((y[1] / x[1]).max()) > 1


@given(st.floats(0.01, 1), st.integers(1, 25), st.integers(1, 13))
def test_the_share_that_is_kept(share: float, joints: int, frames: int) -> None:
    generator = torch.Generator().manual_seed(joints * 100 + frames)
    alpha = torch.rand(2, 3, frames, joints, generator=generator, dtype=torch.float64)
    for mask, number in zip(keep_masks(alpha, share, relative=True), (joints, frames), strict=True):
        kept = mask.flatten(1).sum(dim=1)
        assert (kept >= share * number - 1e-6).all()
        assert (kept < share * number + 1).all()


def test_ties_are_kept() -> None:
    x = torch.ones(2, 3, 4, 5)
    assert torch.equal(eadm(x, 0.3, relative=True), x)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("released", [False, True])
def test_a_margin_above_1_drops_nothing(relative: bool, released: bool) -> None:
    x = maps()
    x[2, 0] = 0
    x[2, 0, 0, 0] = 1000.0  # attention 1 in float32
    assert torch.equal(eadm(x.float(), 1.5, relative=relative, released=released), x.float())


def test_nothing_kept_is_zero_and_finite() -> None:
    assert not eadm(maps(), 0.1).any()


@pytest.mark.parametrize("released", [False, True])
def test_masks_carry_no_gradient(released: bool) -> None:
    x = (maps() + 0.1).requires_grad_(True)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = eadm(x, 0.67, released=released)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    torch.testing.assert_close(gradient, weights * (y / x).detach())


@pytest.mark.parametrize("shape", [(2, 4, 6, 1), (2, 4, 1, 1)])
@pytest.mark.parametrize("released", [False, True])
def test_maps_without_joints(shape: tuple[int, ...], released: bool) -> None:
    x = torch.rand(shape) + 0.5
    y = eadm(x, 0.7, relative=not released, released=released)
    assert y.isfinite().all()
    if shape[2] == 1:
        assert torch.equal(y, x)


def test_half_precision_stays() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = eadm(maps().bfloat16(), 0.7, relative=True)
    assert y.dtype == torch.bfloat16
    assert (y == 0).double().mean() > (maps() == 0).double().mean()
