"""Similarity mining, as in the paper and as released, number by number."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.models.losses import mixed_keys, nearest_mining, similarity_mining


def rows(n: int, seed: int, dim: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, dim, generator=generator, dtype=torch.float64), dim=1)


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def dots(vector: Tensor, bank: Tensor) -> list[float]:
    return [sum(float(a) * float(b) for a, b in zip(vector, row, strict=True)) for row in bank]


@pytest.mark.parametrize("n", [1, 4])
def test_similarity_mining(n: int) -> None:
    q, k, bank = rows(n, 0), rows(n, 1), rows(9, 2)
    expected = 0.0
    for i in range(n):
        p_q = softmax([s / 0.1 for s in dots(q[i], bank)])
        p_k = softmax([s / 0.04 for s in dots(k[i], bank)])
        expected -= sum(b * math.log(a) for a, b in zip(p_q, p_k, strict=True)) / n
    assert float(similarity_mining(q, k, bank, 0.1, 0.04)) == pytest.approx(expected, rel=1e-12)


def test_mining_a_key_by_itself_gives_its_entropy() -> None:
    k, bank = rows(3, 1), rows(9, 2)
    p = (k @ bank.T / 0.07).softmax(dim=1)
    entropy = -(p * p.log()).sum(dim=1).mean()
    assert float(similarity_mining(k, k, bank, 0.07, 0.07)) == pytest.approx(float(entropy), rel=1e-12)
    assert float(similarity_mining(rows(3, 5), k, bank, 0.07, 0.07)) > float(entropy)


@pytest.mark.parametrize("nearest", [1, 5, 12, 8192])
def test_nearest_mining(nearest: int) -> None:
    q, k, bank = rows(3, 0), rows(3, 1), rows(12, 2)
    bank[4] = k[1]  # more alike than the ceiling: never a neighbour of its own
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
def test_only_queries_learn_and_autocast_changes_nothing(released: bool) -> None:
    q, k, bank = (rows(n, seed).float().requires_grad_() for seed, n in enumerate((3, 3, 12)))

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


def test_mixed_keys() -> None:
    torch.manual_seed(0)
    keys, donor = rows(3, 0), torch.tensor([2, 0, 1])
    mask = torch.rand(3, 4, 5, 2, dtype=torch.float64)
    share = (torch.rand(3, 4, 5) > 0.6).float()
    found = mixed_keys(keys, mask, keys[donor], mask[donor], share)
    for i in range(3):
        j = int(donor[i])
        host, guest = ((mask[each] / 0.1).exp() / (mask[each] / 0.1).exp().sum() for each in (i, j))
        p = sum(float(guest[t, v].sum()) for t in range(4) for v in range(5) if share[i, t, v])
        c = sum(float(host[t, v].sum()) for t in range(4) for v in range(5) if not share[i, t, v])
        expected = (c * keys[i] + p * keys[j]) / (c + p)
        torch.testing.assert_close(found[i], expected / expected.norm(), rtol=1e-10, atol=0)


def test_mixed_keys_of_whole_shares() -> None:
    keys, donor = rows(3, 0), torch.tensor([1, 2, 0])
    mask = torch.rand(3, 4, 5, 2, dtype=torch.float64)
    for share in (0.0, 0.25, 1.0):  # as Mixup does
        found = mixed_keys(keys, mask, keys[donor], mask[donor], torch.full((3, 4, 5), share))
        expected = F.normalize((1 - share) * keys + share * keys[donor], dim=1)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
