"""SkeleMix (Chen et al. 2022, section III-B; spec B5): body parts of a donor pasted over some blocks of frames."""

from collections.abc import Sequence

from torch import Tensor

from skelpipe.augment.blend import Mixed, paste
from skelpipe.augment.donor import DONOR, draw_donors
from skelpipe.augment.draws import Draws
from skelpipe.augment.region import BLOCK, Region
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout

__all__ = ["SkeleMix"]


class SkeleMix:
    """Replace `parts` body parts in `blocks` blocks of four frames, both bodies, by those of a donor.

    Bounds of SkeleMixCLR: 2 to 3 parts, 7 to 11 blocks; of SkeAttnCLR: 3 to 4 parts, 4 to 7 blocks. One shift
    to the donors a batch; one region a batch, or with per="sample" one a sample. The number of frames must be
    a multiple of four, so that the region's border is one of the feature map too.
    """

    def __init__(
        self,
        layout: Layout,
        parts: tuple[int, int] = (2, 3),
        blocks: tuple[int, int] = (7, 11),
        per: str = "batch",
    ) -> None:
        self.region = Region(layout, parts, blocks, per)

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw the region (`parts`, `first`, `length`) and `donor`, int64[N], places in the batch."""
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
        mask = self.region.mask(params, x.shape[2] // BLOCK)
        region = mask.repeat_interleave(BLOCK, dim=1)
        return Mixed(paste(x, donor, region), donor, region, mask)

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Return the mixed clips alone."""
        return self.mix(x, params).clip
