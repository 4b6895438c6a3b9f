"""Pooling of feature maps by region: SAFP of ActCLR and the two views of SkeleMixCLR.

`features` [...,D,T',V] are pooled to [...,D]; masks [...,T',V] have the same leading shape, or one that broadcasts
to it. Each body is pooled by itself; the method takes the mean over bodies. Sums are in float32 or wider.
"""

import torch
from torch import Tensor

__all__ = ["average", "safp", "stmp"]


def average(features: Tensor) -> Tensor:
    """Return the plain mean over T' and V (GAP)."""
    return features.mean((-2, -1))


def safp(features: Tensor, mask: Tensor, eps: float = 1e-5) -> Tensor:
    """Return sum of h A / (sum of A + eps) (Lin et al. 2023, eq. 8): the mean over the actionlet A.

    A body without an actionlet gives 0.
    """
    total, weight = _weighed(features, mask)
    return (total / (weight + eps)).to(features.dtype)


def stmp(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return p and g: the means over `mask` (the trimmed view) and over the rest (the truncated view).

    Chen et al. 2022, eq. 3. `mask` may be boolean. A view without any position gives 0.
    """
    rest = ~mask if mask.dtype == torch.bool else 1 - mask
    views = [_weighed(features, part) for part in (mask, rest)]
    p, g = ((total / torch.where(weight > 0, weight, 1.0)).to(features.dtype) for total, weight in views)
    return p, g


def _weighed(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted sum [...,D] and the sum of weights [...,1]."""
    wide = torch.promote_types(features.dtype, torch.float32)
    weights = mask.to(wide)
    total = torch.einsum("...dtv,...tv->...d", features.to(wide), weights)
    return total, weights.sum((-2, -1))[..., None]
