"""Clips whose positions were changed, with their scores as they were."""

import torch
from torch import Tensor

from skelpipe.views import POSITIONS

__all__ = ["with_scores"]


def with_scores(changed: Tensor, x: Tensor) -> Tensor:
    """Return clips [N,C,T,V,M] with the positions `changed`, [N,3,T,V,M], and the further channels of `x`.

    That is `changed` itself where `x` has no further channels.
    """
    return changed if x.shape[1] <= POSITIONS else torch.cat([changed, x[:, POSITIONS:]], dim=1)
