"""Contrastive losses, as pure functions. They compute in float32 (or float64) even under autocast."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "contrastive_logits",
    "info_nce",
    "info_nce_hard_negative",
    "mixed_keys",
    "nearest_mining",
    "positive_first",
    "similarity_mining",
    "wide",
]


def info_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return the mean InfoNCE loss of queries q [N, D] against keys k [N, D] and negatives queue [K, D].

    L = -1/N sum_i log( exp(q_i.k_i / t) / (exp(q_i.k_i / t) + sum_j exp(q_i.Q_j / t)) )  (He et al. 2020,
    eq. 1; spec D). All rows are unit vectors. No gradient flows into k or the queue.
    """
    return positive_first(contrastive_logits(q, k, queue, temperature))


def contrastive_logits(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return [q.k ; q.Q] / temperature as [N, 1 + K], the positive in column 0; gradients for q only."""
    with torch.autocast(q.device.type, enabled=False):
        q, k, queue = (tensor if tensor.dtype == torch.float64 else tensor.float() for tensor in (q, k, queue))
        positive = (q * k.detach()).sum(dim=1, keepdim=True)
        negative = q @ queue.detach().T
        return torch.cat([positive, negative], dim=1) / temperature


def positive_first(logits: Tensor) -> Tensor:
    """Return the mean cross entropy of logits [N, 1 + K] whose right answer is column 0."""
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def info_nce_hard_negative(q: Tensor, k: Tensor, queue: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Return the mean InfoNCE loss of q [N, D] against keys k [N, D], with the queue [K, D] and other [N, D].

    L = -1/N sum_i log( exp(q_i.k_i / t) / (exp(q_i.k_i / t) + sum_j exp(q_i.Q_j / t) + exp(q_i.other_i / t)) )
    (Chen et al. 2022, eq. 4 and 5; Hua et al. 2023, eq. 8 and 9). All rows are unit vectors. Gradients flow into
    q alone: the former detach `other` (table VII), of the latter the released code does (spec G18).
    """
    logits = contrastive_logits(q, k, queue, temperature)  # [N, 1 + K]
    with torch.autocast(q.device.type, enabled=False):
        hard = (q.to(logits.dtype) * other.detach().to(logits.dtype)).sum(dim=1) / temperature
        return (torch.logaddexp(logits.logsumexp(dim=1), hard) - logits[:, 0]).mean()


def similarity_mining(
    q: Tensor, k: Tensor, bank: Tensor, query_temperature: float, key_temperature: float
) -> Tensor:
    """Return the mean of -sum_j p_k^j log p_q^j (Lin et al. 2023, eq. 9) for queries, keys [N,D] and bank [K,D].

    p_q = softmax(q.M / query_temperature), p_k = softmax(k.M / key_temperature). All rows are unit vectors. The
    paper calls it a KL divergence, from which it differs by the keys' entropy, a constant.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, bank = wide(q), wide(k.detach()), wide(bank.detach())
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
    """Return the released code's loss: mean KL(softmax(t / key_temperature) || softmax(s / query_temperature)).

    t = k.M, where values above `ceiling` count as -1, and s = (q.M)^2, over the `nearest` entries of the bank
    with the largest t, or all where it has fewer (spec D5, G13).
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, bank = wide(q), wide(k.detach()), wide(bank.detach())
        target = k @ bank.T
        target = torch.where(target > ceiling, -1.0, target)
        target, entries = target.topk(min(nearest, len(bank)), dim=1)
        similar = (q @ bank.T).gather(1, entries).square()
        wanted = (target / key_temperature).log_softmax(dim=1)
        found = (similar / query_temperature).log_softmax(dim=1)
        return F.kl_div(found, wanted, reduction="batchmean", log_target=True)


def mixed_keys(
    keys: Tensor, mask: Tensor, donor_keys: Tensor, donor_mask: Tensor, share: Tensor, sharpness: float = 0.1
) -> Tensor:
    """Return keys [N,D] of mixed clips: normalise(c k_i + p k_j) with j the donor of i (spec D5, released code).

    `mask` [N,T,V,M] is each clip's actionlet A, `share` [N,T,V] the donor's share of the mixed clip. p is how much
    of the donor's mass exp(A / sharpness) was pasted, c how much of the host's is left, as shares of p + c. A clip
    mixed as a whole with share l has p = l.
    """
    pasted = share.to(wide(mask).dtype)[..., None]
    p = (_mass(donor_mask, sharpness) * pasted).sum((1, 2, 3))
    c = (_mass(mask, sharpness) * (1 - pasted)).sum((1, 2, 3))
    p = (p / (p + c))[:, None]
    return F.normalize((1 - p) * keys + p * donor_keys, dim=1)


def _mass(mask: Tensor, sharpness: float) -> Tensor:
    return (wide(mask) / sharpness).flatten(1).softmax(dim=1).view(mask.shape)


def wide(x: Tensor) -> Tensor:
    """Return `x` in float32, or as it is in float64."""
    return x if x.dtype == torch.float64 else x.float()
