"""InfoNCE with a hard negative of the sample's own: the other half of the clip it was cut from."""

import torch
from torch import Tensor

from skelpipe.models.losses import contrastive_logits

__all__ = ["info_nce_hard_negative"]


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
