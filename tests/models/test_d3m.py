"""D3M against its sum written out in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.models.aimclr import d3m
from skelpipe.models.losses import contrastive_logits, positive_first


def shares(row: list[float]) -> list[float]:
    largest = max(row)
    weights = [math.exp(value - largest) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def looped(target: Tensor, logits: Tensor) -> float:
    """-1/N sum_n sum_i P(target)_ni log P(logits)_ni."""
    rows = [
        -math.fsum(p * math.log(q) for p, q in zip(shares(a), shares(b), strict=True))
        for a, b in zip(target.tolist(), logits.tolist(), strict=True)
    ]
    return math.fsum(rows) / len(rows)


@given(st.integers(1, 6), st.integers(0, 12), st.sampled_from([0.1, 1.0, 14.0]), st.integers(0, 999))
def test_is_the_formula(clips: int, size: int, scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    target, logits = (scale * torch.randn(clips, 1 + size, dtype=torch.float64) for _ in range(2))
    wanted = looped(target, logits)
    assert float(d3m(target, logits)) == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    assert float(d3m(target.float(), logits.float())) == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_the_least_is_the_targets_entropy() -> None:
    torch.manual_seed(0)
    target = torch.randn(4, 9, dtype=torch.float64)
    p = target.softmax(1)
    least = float(d3m(target, target))
    assert least == pytest.approx(float(-(p * p.log()).sum(1).mean()), rel=1e-12)
    assert all(float(d3m(target, target + torch.randn_like(target))) > least for _ in range(20))


def test_gradients_are_the_difference_of_the_distributions_and_none_reach_the_target() -> None:
    torch.manual_seed(0)
    target, logits = (torch.randn(4, 9, dtype=torch.float64, requires_grad=True) for _ in range(2))
    d3m(target, logits).backward()
    assert target.grad is None
    assert logits.grad is not None
    assert torch.allclose(logits.grad, (logits.softmax(1) - target.softmax(1)).detach() / 4)


def test_stays_finite_where_a_softmax_underflows() -> None:
    target, logits = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 300.0]], requires_grad=True)
    loss = d3m(target, logits)
    assert float(loss.detach()) == pytest.approx(300 / (1 + math.e), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_a_certain_target_makes_it_infonce() -> None:
    torch.manual_seed(0)
    q, k, queue = (torch.nn.functional.normalize(torch.randn(n, 5), dim=1) for n in (3, 3, 7))
    logits = contrastive_logits(q, k, queue, 0.07)
    certain = torch.zeros_like(logits)
    certain[:, 0] = 1000
    assert torch.allclose(d3m(certain, logits), positive_first(logits), atol=1e-6)


def test_computes_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    target, logits = torch.randn(3, 50), torch.randn(3, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = d3m(target, logits)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, d3m(target, logits))
