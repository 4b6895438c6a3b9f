"""Losses that compare how two embeddings lie among the bank's. They compute in float32 (or float64) even under
autocast; gradients flow into the queries alone."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["mixed_keys", "nearest_mining", "similarity_mining", "wide"]


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
