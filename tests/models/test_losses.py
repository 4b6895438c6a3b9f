"""InfoNCE against the formula written out as loops in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.models.losses import contrastive_logits, info_nce, positive_first


def unit(rows: int, dim: int) -> Tensor:
    return F.normalize(torch.randn(rows, dim), dim=1)


def looped(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> float:
    """-1/N sum_i log( e(q_i.k_i) / (e(q_i.k_i) + sum_j e(q_i.Q_j)) ), e(s) = exp(s / t)."""
    a, b, c = q.tolist(), k.tolist(), queue.tolist()
    total = 0.0
    for i in range(len(a)):
        positive = math.exp(sum(x * y for x, y in zip(a[i], b[i], strict=True)) / temperature)
        below = positive
        for j in range(len(c)):
            below += math.exp(sum(x * y for x, y in zip(a[i], c[j], strict=True)) / temperature)
        total -= math.log(positive / below)
    return total / len(a)


@given(
    clips=st.integers(1, 6),
    size=st.integers(1, 12),
    dim=st.integers(2, 9),
    temperature=st.sampled_from([0.05, 0.07, 0.2, 1.0]),
    seed=st.integers(0, 999),
)
def test_is_the_formula(clips: int, size: int, dim: int, temperature: float, seed: int) -> None:
    torch.manual_seed(seed)
    q, k, queue = unit(clips, dim), unit(clips, dim), unit(size, dim)
    found = float(info_nce(q, k, queue, temperature))
    assert found == pytest.approx(looped(q, k, queue, temperature), rel=1e-5, abs=1e-6)


def test_collapsed_embeddings_cost_the_log_of_the_choices() -> None:
    same = F.normalize(torch.ones(4, 8), dim=1)
    assert float(info_nce(same, same, same[:1].expand(511, -1), 0.07)) == pytest.approx(math.log(512), rel=1e-5)


def test_gradients_reach_the_queries_only_and_are_the_softmax() -> None:
    torch.manual_seed(0)
    q, k, queue = (unit(n, 5).requires_grad_() for n in (3, 3, 7))
    info_nce(q, k, queue, 0.2).backward()
    assert k.grad is None
    assert queue.grad is None
    # d/dq_i of the mean loss: (sum_j p_ij c_j - k_i) / (t N), c = the key and the queue
    for i in range(3):
        choices = torch.cat([k[i : i + 1], queue]).detach()
        share = torch.softmax(choices @ q[i].detach() / 0.2, 0)
        assert torch.allclose(q.grad[i], (share @ choices - k[i].detach()) / (0.2 * 3), atol=1e-6)


def test_logits_put_the_positive_first() -> None:
    torch.manual_seed(0)
    q, k, queue = unit(3, 5), unit(3, 5), unit(4, 5)
    logits = contrastive_logits(q, k, queue, 0.5)
    assert logits.shape == (3, 5)
    assert float(logits[1, 0]) == pytest.approx(2 * float(q[1] @ k[1]), abs=1e-6)
    assert float(logits[1, 4]) == pytest.approx(2 * float(q[1] @ queue[3]), abs=1e-6)


def test_float32_under_autocast() -> None:
    torch.manual_seed(0)
    q, k, queue = unit(8, 64), unit(8, 64), unit(256, 64)
    expected = info_nce(q, k, queue, 0.07)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = info_nce(q, k, queue, 0.07)
        assert (q @ k.T).dtype == torch.bfloat16  # autocast was on
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_half_precision_input_is_raised() -> None:
    q, k, queue = (unit(n, 16).bfloat16() for n in (3, 3, 5))
    assert info_nce(q, k, queue, 0.07).dtype == torch.float32


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([[300.0, -300.0, 299.0]])
    assert float(positive_first(logits)) == pytest.approx(math.log1p(math.exp(-1)), rel=1e-5)
