"""Contrastive losses, as pure functions. They compute in float32 (or float64) even under autocast."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["contrastive_logits", "info_nce", "positive_first"]


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
