"""Pooling over masks: eq. 8 of Lin et al. 2023 and eq. 3 of Chen et al. 2022, in float64."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.models.pooling import average, safp, stmp


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_pooling_is_equation_8_of_actclr_and_3_of_skelemixclr(d: int, t: int, v: int, seed: int) -> None:
    h, mask = random(3, 2, d, t, v, seed=seed), random(3, 2, t, v, seed=seed + 1).abs().clamp(max=1)
    hard = mask > 0.4
    pooled, (p, g) = safp(h, mask), stmp(h, hard)
    for n, m in np.ndindex(3, 2):
        a, f, b = mask[n, m].numpy(), h[n, m].numpy(), hard[n, m].numpy()
        np.testing.assert_allclose(pooled[n, m], (f * a).sum((1, 2)) / (a.sum() + 1e-5), rtol=0, atol=1e-12)
        for got, part in ((p, b), (g, ~b)):
            expected = f[:, part].mean(1) if part.any() else np.zeros(d)
            np.testing.assert_allclose(got[n, m], expected, rtol=0, atol=1e-12)


def test_constant_maps_and_masks() -> None:
    h = random(2, 5, 13, 25)
    torch.testing.assert_close(safp(h, torch.full((2, 13, 25), 0.7)), average(h), rtol=1e-5, atol=0)
    torch.testing.assert_close(average(h), h.flatten(-2).sum(-1) / 325)
    constant = torch.arange(5.0)[:, None, None].expand(2, 5, 16, 25)
    mask = torch.zeros(2, 16, 25, dtype=torch.bool)
    mask[:, 3:10, 4:9] = True
    for pooled in stmp(constant, mask):
        torch.testing.assert_close(pooled, torch.arange(5.0).expand(2, 5))
    assert safp(h, torch.zeros(2, 13, 25)).abs().max() == 0


def test_pooling_shares_a_mask_and_sums_halves_in_float32() -> None:
    h, mask = random(3, 2, 64, 16, 25).to(torch.bfloat16), random(3, 16, 25).abs() > 0.5
    for got, exact in zip(stmp(h, mask[:, None]), stmp(h.double(), mask[:, None]), strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), exact, rtol=2**-8, atol=1e-6)
    h64 = random(2, 3, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: safp(z, mask[:2, :4, :5]), (h64,))
