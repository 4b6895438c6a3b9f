"""Skeleton Mix of ActCLR: Mixup, CutMix or ResizeMix of whole batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from skelpipe.augment.blend import Mixed, blend
from skelpipe.augment.donor import DONOR, draw_donors, take
from skelpipe.augment.draws import Draws
from skelpipe.augment.region import BLOCK, Region
from skelpipe.skeleton import Layout

__all__ = ["KINDS", "SkeletonMix"]

KINDS = ("mixup", "resizemix", "cutmix")
LIMITS = (0.25, 0.5)  # u up to the first: Mixup, up to the second: ResizeMix, beyond: CutMix
LATE_EPOCH, LATE_PARTS, LATE_BLOCKS = 200, (1, 2), (1, 3)  # bounds of the released code from this epoch on


class SkeletonMix:
    """Mix each clip x_i with its donor x_j in one of three ways (Lin et al. 2023, section 3.2).

    One way per batch (per="sample": per sample): CutMix with probability 0.5, ResizeMix 0.25, Mixup 0.25. CutMix
    takes x_j inside a region of `parts` body parts during `blocks` blocks of four frames. ResizeMix fills the
    region's n frames with the donor's first 2 n, or all if it has fewer, by nearest sampling. Mixup is (1 - l) x_i
    + l x_j everywhere, l ~ U(0,1). The paper gives no numbers; these are those of the released code. With
    `curriculum` the region has 1 to 2 parts and 1 to 3 blocks from epoch 200 on, counted from 1 at epoch `begins`
    of the run (counted from 0), as in the released code only (divergence `actclr-transformations`). With `taken`
    views have that extra too, see `mix`.
    """

    def __init__(
        self,
        layout: Layout,
        parts: tuple[int, int] = (2, 3),
        blocks: tuple[int, int] = (3, 5),
        per: str = "batch",
        curriculum: bool = False,
        begins: int = 0,
        taken: bool = False,
    ) -> None:
        self.region = Region(layout, parts, blocks, per)
        self.late = Region(layout, LATE_PARTS, LATE_BLOCKS, per) if curriculum else self.region
        self.begins = begins
        self.extras = ("mask", "donor", "taken") if taken else ("mask", "donor")

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `kind` int64[N] (an index into KINDS), `weight` l float32[N], the region and `donor`."""
        u, weight = self.region.chosen(draws.child(2)).uniform(2).unbind(1)
        kind = sum((u > limit).long() for limit in LIMITS)
        region = self.region if draws.epoch - self.begins + 1 < LATE_EPOCH else self.late
        drawn = region.sample(draws.child(0), shape)
        return {"kind": torch.as_tensor(kind), "weight": weight, **drawn, DONOR: draw_donors(draws.child(1))}

    def mix(self, x: Tensor, params: dict[str, Tensor]) -> Mixed:
        """Mix clips [N,C,T,V,M]; `region` and `mask` of the result are the donor's share, float32[N,T,V].

        `taken` is that share too, but ResizeMix counts as if the chosen joints of all the donor's frames were
        pasted: so the released code weighs the keys of mixed clips (divergence `actclr-loss`).
        """
        frames = x.shape[2]
        mixup, resizemix = (params["kind"] == KINDS.index(kind) for kind in ("mixup", "resizemix"))
        region = self.region.mask(params, frames, BLOCK)
        share = torch.where(mixup[:, None, None], params["weight"][:, None, None], region.float())
        donor = params[DONOR]
        frame = torch.arange(frames, device=x.device).expand(len(x), frames)
        pasted = take(x, donor, torch.where(resizemix[:, None], _squeezed(frame, params), frame))
        taken = torch.where(resizemix[:, None, None], share.amax(1, keepdim=True), share)
        return Mixed(blend(x, pasted, share), donor, share, share, taken)

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Return the mixed clips alone."""
        return self.mix(x, params).clip


def _squeezed(frame: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Return int64[N,T]: the donor's frame that ResizeMix puts at each frame; not used outside the region."""
    frames = frame.shape[1]
    length = params["length"][:, None] * BLOCK
    position = frame - params["first"][:, None] * BLOCK
    return (position * (2 * length).clamp(max=frames) // length).clamp(0, frames - 1)
