"""InfoNCE with a hard negative of the sample's own, against its formula term by term."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.models.losses import info_nce, info_nce_hard_negative


def units(n: int, dim: int, seed: int) -> Tensor:
    drawn = torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=1)


def naive(q: Tensor, k: Tensor, queue: Tensor, other: Tensor, t: float) -> float:
    total = 0.0
    for a, b, c in zip(q.tolist(), k.tolist(), other.tolist(), strict=True):
        positive, hard = (math.exp(sum(x * y for x, y in zip(a, d, strict=True)) / t) for d in (b, c))
        past = sum(math.exp(sum(x * y for x, y in zip(a, m, strict=True)) / t) for m in queue.tolist())
        total -= math.log(positive / (positive + past + hard))
    return total / len(q)


@pytest.mark.parametrize(("n", "size"), [(5, 12), (1, 3), (7, 1)])
@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_formula(n: int, size: int, temperature: float) -> None:
    q, k, queue, other = units(n, 6, 0), units(n, 6, 1), units(size, 6, 2), units(n, 6, 3)
    expected = naive(q, k, queue, other, temperature)
    assert float(info_nce_hard_negative(q, k, queue, other, temperature)) == pytest.approx(expected, rel=1e-12)
    single = info_nce_hard_negative(q.float(), k.float(), queue.float(), other.float(), temperature)
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(expected, rel=1e-5)


def test_a_negative_far_away_is_none() -> None:
    q = units(4, 6, 0)
    k, queue = units(4, 6, 1), units(9, 6, 2)
    against = float(info_nce_hard_negative(q, k, queue, -q, 0.01))
    assert against == pytest.approx(float(info_nce(q, k, queue, 0.01)), abs=1e-12)
    assert float(info_nce_hard_negative(q, k, queue, q, 0.01)) > against


def test_gradients_reach_the_query_alone() -> None:
    q, k, queue, other = (units(n, 6, seed).requires_grad_() for seed, n in enumerate((4, 4, 9, 4)))
    info_nce_hard_negative(q, k, queue, other, 0.2).backward()
    assert [tensor.grad is None for tensor in (k, queue, other)] == [True] * 3
    shift = 1e-6
    moved = q.detach().clone()
    moved[1, 2] += shift
    slope = (naive(moved, k, queue, other, 0.2) - naive(q, k, queue, other, 0.2)) / shift
    assert float(q.grad[1, 2]) == pytest.approx(slope, rel=1e-4)


def test_autocast_leaves_it_in_single_precision() -> None:
    q, k, queue, other = (units(n, 6, seed).float() for seed, n in enumerate((4, 4, 9, 4)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce_hard_negative(q, k, queue, other, 0.2)
    assert torch.equal(loss, info_nce_hard_negative(q, k, queue, other, 0.2))
