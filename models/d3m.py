"""D3M: one view's similarities to the key and the queue taught to another's (AimCLR; spec D3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["d3m"]


def d3m(target_logits: Tensor, logits: Tensor) -> Tensor:
    """Return the mean cross entropy of softmax(logits) against softmax(target_logits), both [N, 1 + K].

    L_d = -1/N sum_n sum_i P(target)_ni log P(logits)_ni, where logits are [u.z ; u.Q] / t: AimCLR eq. 7 and 8,
    MsMCLR eq. 6 to 8 (printed without the minus signs), with the log taken by log-softmax (spec G38). It equals
    the entropy of P where both logits are the same. No gradient flows into the target.
    """
    with torch.autocast(logits.device.type, enabled=False):
        target_logits, logits = (
            tensor if tensor.dtype == torch.float64 else tensor.float() for tensor in (target_logits, logits)
        )
        target = F.softmax(target_logits.detach(), dim=1)
        return -(target * F.log_softmax(logits, dim=1)).sum(dim=1).mean()
