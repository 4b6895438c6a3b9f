"""Losses against their formulas written as loops in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.models.losses import (
    contrastive_logits,
    hard_negative_logits,
    nearest_mining,
    positive_first,
    similarity_mining,
)


def random_rows(rows: int, dim: int) -> Tensor:
    return F.normalize(torch.randn(rows, dim), dim=1)


def info_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    return positive_first(contrastive_logits(q, k, queue, temperature))


def info_nce_hard_negative(q: Tensor, k: Tensor, queue: Tensor, other: Tensor, temperature: float) -> Tensor:
    return positive_first(*hard_negative_logits(q, k, queue, other, temperature))


def naive_info_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> float:
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
def test_info_nce_is_its_formula(clips: int, size: int, dim: int, temperature: float, seed: int) -> None:
    torch.manual_seed(seed)
    q, k, queue = random_rows(clips, dim), random_rows(clips, dim), random_rows(size, dim)
    found = float(info_nce(q, k, queue, temperature))
    assert found == pytest.approx(naive_info_nce(q, k, queue, temperature), rel=1e-5, abs=1e-6)


def test_info_nce_of_equal_embeddings_is_the_log_of_their_number() -> None:
    same = F.normalize(torch.ones(4, 8), dim=1)
    assert float(info_nce(same, same, same[:1].expand(511, -1), 0.07)) == pytest.approx(math.log(512), rel=1e-5)


def test_gradients_reach_the_queries_only_and_are_the_softmax() -> None:
    torch.manual_seed(0)
    q, k, queue = (random_rows(n, 5).requires_grad_() for n in (3, 3, 7))
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
    q, k, queue = random_rows(3, 5), random_rows(3, 5), random_rows(4, 5)
    logits = contrastive_logits(q, k, queue, 0.5)
    assert logits.shape == (3, 5)
    assert float(logits[1, 0]) == pytest.approx(2 * float(q[1] @ k[1]), abs=1e-6)
    assert float(logits[1, 4]) == pytest.approx(2 * float(q[1] @ queue[3]), abs=1e-6)


def test_float32_under_autocast() -> None:
    torch.manual_seed(0)
    q, k, queue = random_rows(8, 64), random_rows(8, 64), random_rows(256, 64)
    expected = info_nce(q, k, queue, 0.07)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = info_nce(q, k, queue, 0.07)
        assert (q @ k.T).dtype == torch.bfloat16  # autocast was on
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_half_precision_input_gives_float32() -> None:
    q, k, queue = (random_rows(n, 16).bfloat16() for n in (3, 3, 5))
    assert info_nce(q, k, queue, 0.07).dtype == torch.float32


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([[300.0, -300.0, 299.0]])
    assert float(positive_first(logits)) == pytest.approx(math.log1p(math.exp(-1)), rel=1e-5)


def unit_rows(n: int, seed: int, dim: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, dim, generator=generator, dtype=torch.float64), dim=1)


def naive_hard_negative(q: Tensor, k: Tensor, queue: Tensor, other: Tensor, t: float) -> float:
    total = 0.0
    for a, b, c in zip(q.tolist(), k.tolist(), other.tolist(), strict=True):
        positive, hard = (math.exp(sum(x * y for x, y in zip(a, d, strict=True)) / t) for d in (b, c))
        past = sum(math.exp(sum(x * y for x, y in zip(a, m, strict=True)) / t) for m in queue.tolist())
        total -= math.log(positive / (positive + past + hard))
    return total / len(q)


@pytest.mark.parametrize(("n", "size"), [(5, 12), (1, 3), (7, 1)])
@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_hard_negative_is_its_formula(n: int, size: int, temperature: float) -> None:
    q, k, queue, other = unit_rows(n, 0), unit_rows(n, 1), unit_rows(size, 2), unit_rows(n, 3)
    expected = naive_hard_negative(q, k, queue, other, temperature)
    assert float(info_nce_hard_negative(q, k, queue, other, temperature)) == pytest.approx(expected, rel=1e-12)
    single = info_nce_hard_negative(q.float(), k.float(), queue.float(), other.float(), temperature)
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(expected, rel=1e-5)


def test_a_distant_hard_negative_changes_nothing() -> None:
    q = unit_rows(4, 0)
    k, queue = unit_rows(4, 1), unit_rows(9, 2)
    against = float(info_nce_hard_negative(q, k, queue, -q, 0.01))
    assert against == pytest.approx(float(info_nce(q, k, queue, 0.01)), abs=1e-12)
    assert float(info_nce_hard_negative(q, k, queue, q, 0.01)) > against


def test_hard_negative_gradients_reach_the_query_alone() -> None:
    q, k, queue, other = (unit_rows(n, seed).requires_grad_() for seed, n in enumerate((4, 4, 9, 4)))
    info_nce_hard_negative(q, k, queue, other, 0.2).backward()
    assert [tensor.grad is None for tensor in (k, queue, other)] == [True] * 3
    shift = 1e-6
    moved = q.detach().clone()
    moved[1, 2] += shift
    slope = (
        naive_hard_negative(moved, k, queue, other, 0.2) - naive_hard_negative(q, k, queue, other, 0.2)
    ) / shift
    assert float(q.grad[1, 2]) == pytest.approx(slope, rel=1e-4)


def test_hard_negative_is_float32_under_autocast() -> None:
    q, k, queue, other = (unit_rows(n, seed).float() for seed, n in enumerate((4, 4, 9, 4)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce_hard_negative(q, k, queue, other, 0.2)
    assert torch.equal(loss, info_nce_hard_negative(q, k, queue, other, 0.2))


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def dots(vector: Tensor, bank: Tensor) -> list[float]:
    return [sum(float(a) * float(b) for a, b in zip(vector, row, strict=True)) for row in bank]


@pytest.mark.parametrize("n", [1, 4])
def test_similarity_mining(n: int) -> None:
    q, k, bank = unit_rows(n, 0), unit_rows(n, 1), unit_rows(9, 2)
    expected = 0.0
    for i in range(n):
        p_q = softmax([s / 0.1 for s in dots(q[i], bank)])
        p_k = softmax([s / 0.04 for s in dots(k[i], bank)])
        expected -= sum(b * math.log(a) for a, b in zip(p_q, p_k, strict=True)) / n
    assert float(similarity_mining(q, k, bank, 0.1, 0.04)) == pytest.approx(expected, rel=1e-12)


def test_similarity_mining_of_equal_embeddings_is_the_entropy() -> None:
    k, bank = unit_rows(3, 1), unit_rows(9, 2)
    p = (k @ bank.T / 0.07).softmax(dim=1)
    entropy = -(p * p.log()).sum(dim=1).mean()
    assert float(similarity_mining(k, k, bank, 0.07, 0.07)) == pytest.approx(float(entropy), rel=1e-12)
    assert float(similarity_mining(unit_rows(3, 5), k, bank, 0.07, 0.07)) > float(entropy)


@pytest.mark.parametrize("nearest", [1, 5, 12, 8192])
def test_nearest_mining(nearest: int) -> None:
    q, k, bank = unit_rows(3, 0), unit_rows(3, 1), unit_rows(12, 2)
    bank[4] = k[1]  # above the ceiling: never among the nearest
    bank[7] = F.normalize(k[2] + 0.02, dim=0)
    expected = 0.0
    for i in range(3):
        t = [-1.0 if s > 0.95 else s for s in dots(k[i], bank)]
        kept = sorted(range(12), key=lambda j: -t[j])[:nearest]
        s = dots(q[i], bank)
        p_t = softmax([t[j] / 0.04 for j in kept])
        p_s = softmax([s[j] ** 2 / 0.1 for j in kept])
        expected += sum(a * math.log(a / b) for a, b in zip(p_t, p_s, strict=True)) / 3
    assert max(dots(k[1], bank)) > 0.95 < max(dots(k[2], bank))
    found = nearest_mining(q, k, bank, 0.1, 0.04, nearest=nearest)
    assert float(found) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("released", [False, True])
def test_mining_gradients_reach_the_query_alone_and_autocast_changes_nothing(released: bool) -> None:
    q, k, bank = (unit_rows(n, seed).float().requires_grad_() for seed, n in enumerate((3, 3, 12)))

    def loss() -> Tensor:
        if released:
            return nearest_mining(q, k, bank, 0.1, 0.04, nearest=5)
        return similarity_mining(q, k, bank, 0.1, 0.04)

    loss().backward()
    assert q.grad is not None
    assert float(q.grad.abs().sum()) > 0
    assert k.grad is None
    assert bank.grad is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss()
    assert cast.dtype == torch.float32
    assert torch.equal(cast, loss())
