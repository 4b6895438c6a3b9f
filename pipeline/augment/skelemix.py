"""SkeleMix: body parts of a donor are pasted during some blocks of frames."""

from collections.abc import Sequence
from typing import Final

from torch import Tensor

from skelpipe.augment.blend import Mixed, paste
from skelpipe.augment.donor import DONOR, draw_donors
from skelpipe.augment.draws import Draws
from skelpipe.augment.region import BLOCK, Region
from skelpipe.augment.settings import SkeleMixSettings
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout

__all__ = ["SkeleMix"]

USUAL: Final = SkeleMixSettings()


class SkeleMix:
    """x'_i = x_j inside a region, x_i outside it, j the donor, all axes and bodies (Chen et al. 2022, III-B).

    The region is `parts` body parts during `blocks` blocks of four frames, both uniform between bounds. Bounds of
    SkeleMixCLR: 2 to 3 parts, 7 to 11 blocks (table II); of SkeAttnCLR: 3 to 4 and 4 to 7 (Hua et al. 2023, table
    13). One shift to the donors per batch; one region per batch, or with per="sample" per sample. The number of
    frames must be a multiple of four: then the border of the region is also a border between steps of the feature
    map.

    The ablations of Chen et al.: with cropping="random" single joints are drawn instead of parts, as many as
    `random_joints` bounds (table VI, "Random"); with fill="zeros" the region is 0, and the donor is only named
    (table V, "Zeros").
    """

    def __init__(
        self,
        layout: Layout,
        parts: tuple[int, int] = USUAL.parts,
        blocks: tuple[int, int] = USUAL.blocks,
        per: str = USUAL.per,
        cropping: str = USUAL.cropping,
        random_joints: tuple[int, int] = USUAL.random_joints,
        fill: str = USUAL.fill,
    ) -> None:
        SkeleMixSettings(parts, blocks, per, cropping, random_joints, fill)  # refuses what does not fit together
        self.region = Region(layout, parts, blocks, per, random_joints if cropping == "random" else None)
        self.fill = fill

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw the region (`parts` or `joints`, `first`, `length`) and `donor`, int64[N], places in the batch."""
        if shape[2] % BLOCK:
            below, least = shape[2] // BLOCK * BLOCK, self.region.blocks[1] * BLOCK
            fitting = f"{below} or {below + BLOCK}" if below >= least else f"{max(below + BLOCK, least)}"
            raise UsageError(
                f"SkeleMix needs a multiple of {BLOCK} frames, and these clips have {shape[2]}: "
                f"prepare the dataset with {fitting} frames (the paper has 64)"
            )
        return {**self.region.sample(draws.child(0), shape), DONOR: draw_donors(draws.child(1))}

    def mix(self, x: Tensor, params: dict[str, Tensor]) -> Mixed:
        """Mix clips [N,C,T,V,M]; pure."""
        donor = params[DONOR]
        mask, region = self.region.masks(params, x.shape[2], BLOCK)
        empty = self.fill == "zeros"
        clip = x.masked_fill(region[:, None, :, :, None], 0) if empty else paste(x, donor, mask)
        return Mixed(clip, donor, region, mask)

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Return the mixed clips alone."""
        return self.mix(x, params).clip
