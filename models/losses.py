"""Contrastive losses, as pure functions. They compute in float32 (or float64) even under autocast.

Embeddings are unit vectors: queries q and keys k [N, D], and the queue (ActCLR's memory bank) [K, D]. Gradients
flow into the queries alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "contrastive_logits",
    "hard_negative_logits",
    "mean_similarities",
    "nearest_mining",
    "positive_first",
    "similarity_mining",
    "upcast",
]


def contrastive_logits(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return [q.k ; q.Q] / temperature as [N, 1 + K], with the positive in column 0."""
    with torch.autocast(q.device.type, enabled=False):
        q, k, queue = upcast(q), upcast(k), upcast(queue)
        positive = (q * k.detach()).sum(dim=1, keepdim=True)
        negative = q @ queue.detach().T
        return torch.cat([positive, negative], dim=1) / temperature


def hard_negative_logits(
    q: Tensor, k: Tensor, queue: Tensor, other: Tensor, temperature: float, *, attached: bool = False
) -> tuple[Tensor, Tensor]:
    """Return `contrastive_logits` [N, 1 + K] and q.other / temperature [N, 1], apart: joining them is a copy.

    `other` [N, D] is each query's hard negative beside the queue (Chen et al. 2022, eq. 4 and 5; Hua et al. 2023,
    eq. 8 and 9). Gradients flow into it only if it is `attached`: not so Chen et al., table VII; Hua et al. leave
    it open (divergence `skeattnclr-hard-negative`).
    """
    logits = contrastive_logits(q, k, queue, temperature)
    with torch.autocast(q.device.type, enabled=False):
        negative = other if attached else other.detach()
        hard = (q.to(logits.dtype) * negative.to(logits.dtype)).sum(dim=1, keepdim=True)
        return logits, hard / temperature


def positive_first(logits: Tensor, hard: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy of logits [N, 1 + K] whose positive is column 0; `hard` [N, 1] is one more
    negative."""
    with torch.autocast(logits.device.type, enabled=False):
        if hard is not None:
            return (torch.logaddexp(logits.logsumexp(dim=1), hard[:, 0]) - logits[:, 0]).mean()
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


@torch.no_grad()
def mean_similarities(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the mean cosine of the positives and that of the queue, of `contrastive_logits` [N, 1 + K]."""
    return logits[:, 0].mean() * temperature, logits[:, 1:].mean() * temperature


def similarity_mining(
    q: Tensor, k: Tensor, bank: Tensor, query_temperature: float, key_temperature: float
) -> Tensor:
    """Return the mean of -sum_j p_k^j log p_q^j (Lin et al. 2023, eq. 9).

    p_q = softmax(q.M / query_temperature), p_k = softmax(k.M / key_temperature), with the bank M. The paper calls
    it a KL divergence, from which it differs by a constant, the entropy of p_k.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, bank = upcast(q), upcast(k.detach()), upcast(bank.detach())
        target = (k @ bank.T / key_temperature).softmax(dim=1)
        return F.cross_entropy(q @ bank.T / query_temperature, target)


def nearest_mining(
    q: Tensor,
    k: Tensor,
    bank: Tensor,
    query_temperature: float,
    key_temperature: float,
    *,
    nearest: int,
    ceiling: float = 0.95,
) -> Tensor:
    """Return ActCLR's released loss: the mean KL(softmax(t / key_temperature) || softmax(s / query_temperature)).

    t = k.M, where values above `ceiling` count as -1, and s = (q.M)^2, over the `nearest` entries of the bank M
    with the largest t, or all where it has fewer (divergence `actclr-loss`).
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, bank = upcast(q), upcast(k.detach()), upcast(bank.detach())
        target = k @ bank.T
        target = torch.where(target > ceiling, -1.0, target)
        target, entries = target.topk(min(nearest, len(bank)), dim=1)
        similar = (q @ bank.T).gather(1, entries).square()
        log_target = (target / key_temperature).log_softmax(dim=1)
        log_found = (similar / query_temperature).log_softmax(dim=1)
        return F.kl_div(log_found, log_target, reduction="batchmean", log_target=True)


def upcast(x: Tensor) -> Tensor:
    """Return `x` in float32, or as it is in float64."""
    return x if x.dtype == torch.float64 else x.float()
