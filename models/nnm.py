"""NNM: the keys in the queue nearest to a clip's views are positives too (AimCLR; spec D3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["nearest", "nnm"]


def nearest(logits: Sequence[Tensor], top_k: int) -> Tensor:
    """Return the positives bool [N, 1 + K]: the key in column 0 and each view's `top_k` nearest of the queue.

    `logits` are each view's [N, 1 + K]; the union over views has 1 + top_k to 1 + top_k * views entries a row.
    Of equal similarities torch's `topk` chooses.
    """
    positives = torch.zeros_like(logits[0], dtype=torch.bool)
    positives[:, 0] = True
    for view in logits:
        queue = view.detach()[:, 1:]
        found = queue.topk(min(top_k, queue.shape[1]), dim=1).indices
        positives.scatter_(1, found + 1, True)
    return positives


def nnm(logits: Tensor, positives: Tensor, *, divided: bool = True) -> Tensor:
    """Return -sum_{j in positives} log softmax(logits)_j, the mean over clips, from [N, 1 + K] each.

    AimCLR eq. 9 is the plain sum; its code, and the default, divides a clip's by its number of positives (spec
    G7). With no positive but column 0 it is InfoNCE.
    """
    with torch.autocast(logits.device.type, enabled=False):
        chances = F.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=1)
        each = -chances.where(positives, 0).sum(dim=1)
        return (each / positives.sum(dim=1) if divided else each).mean()
