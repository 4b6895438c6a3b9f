"""Two batches of clips blended into one, with a share for each joint of each frame."""

from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment import cpu_kernels

__all__ = ["Mixed", "blend", "paste"]


@dataclass(frozen=True, slots=True)
class Mixed:
    """N mixed clips, and what was mixed.

    `clip` [N,C,T,V,M]. `donor` int64[N]: the row of the batch that each clip's donor has. `region` [N,T,V]: the
    donor's share of each frame and joint, bool where only 0 and 1 occur. `mask`: that share at the resolution that
    a method needs, [N,T/4,V] for SkeleMix (that of the encoder's feature map), `region` itself for Skeleton Mix.
    `taken` [N,T,V]: the share of the donor's own frames and joints that counts as pasted (see `SkeletonMix`), None
    where a mixture does not say.
    """

    clip: Tensor
    donor: Tensor
    region: Tensor
    mask: Tensor
    taken: Tensor | None = None


def paste(x: Tensor, donor: Tensor, region: Tensor) -> Tensor:
    """Return clips [N,C,T,V,M] with those of clip donor[n], unchanged, where `region`, bool[N,S,V], is true.

    Each row of the region is that of T / S frames.
    """
    if cpu_kernels.usable(x) and x.numel():
        return cpu_kernels.paste(x, donor, region)
    every = region.repeat_interleave(x.shape[2] // max(region.shape[1], 1), dim=1)
    return blend(x, x.index_select(0, donor), every)


def blend(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """Return (1 - share) x + share y for clips [N,C,T,V,M] and y's share in 0..1, [N,T,V(,1)] or [N,T,V,M].

    All axes C have the same share; all bodies too, where it has no axis M. Where it is 0 or 1, values are copied
    unchanged. Differentiable in all three; computed in float32 or wider.
    """
    n, c, t, v, m = x.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    if share.shape == (n, t, v, m):
        weight = share.reshape(n, 1, t * v * m)
    else:
        joint = torch.arange(v * m, device=x.device) // m
        weight = share.reshape(n * t, v).index_select(1, joint).view(n, 1, t * v * m)
    # Flat except for the channels: a broadcast inner axis makes this three times slower on a CPU.
    first, second = (z.to(wide).reshape(n, c, t * v * m) for z in (x, y))
    return torch.lerp(first, second, weight.to(wide)).to(x.dtype).view(x.shape)
