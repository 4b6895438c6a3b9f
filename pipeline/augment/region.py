"""The region that SkeleMix and Skeleton Mix replace: some body parts during some blocks of frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.donor import BITS, below
from skelpipe.augment.draws import Draws
from skelpipe.augment.settings import check_per
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout

__all__ = ["BLOCK", "Region", "part_of_joint"]

BLOCK = 4  # frames that the encoders merge into one position of their feature maps

Bounds = tuple[int, int]  # least and greatest, inclusive


@dataclass(frozen=True, slots=True)
class Region:
    """A random choice of body parts of the layout and of consecutive blocks of four frames.

    The numbers of parts and of blocks are uniform between their bounds. Parts are drawn without replacement; the
    first block is uniform among those where the blocks fit. `per`: one region per "batch" (Chen et al. 2022,
    section III-B, and all released code) or one per "sample". With `joints`, bounds of their number, single joints
    are drawn instead of parts ("Random" of table VI there).
    """

    layout: Layout
    parts: Bounds
    blocks: Bounds
    per: str = "batch"
    joints: Bounds | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.parts[0] <= self.parts[1] <= len(self.layout.parts):
            raise UsageError(
                f"{self.parts[0]} to {self.parts[1]} of {len(self.layout.parts)} body parts cannot be drawn"
            )
        if not 1 <= self.blocks[0] <= self.blocks[1]:
            raise UsageError(f"{self.blocks[0]} to {self.blocks[1]} blocks of {BLOCK} frames cannot be drawn")
        if self.joints and not 1 <= self.joints[0] <= self.joints[1] <= len(self.layout):
            raise UsageError(
                f"{self.joints[0]} to {self.joints[1]} of the {len(self.layout)} joints of {self.layout.name} "
                f"cannot be drawn"
            )
        check_per(self.per)

    def chosen(self, draws: Draws) -> Draws:
        """Return the draws that the region depends on: those shared by the batch, or each sample's own."""
        return draws.shared() if self.per == "batch" else draws

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw regions for clips of `shape` [N,C,T,V,M].

        Returns `parts` bool[N,P] in the layout's order, or `joints` bool[N,V], and `first` and `length`, int64[N],
        in blocks. Raises UsageError where a clip is too short for the blocks or has other joints than the layout.
        """
        frames, joints = shape[2], shape[3]
        if joints != len(self.layout):
            raise UsageError(f"the clips have {joints} joints, the layout {self.layout.name} {len(self.layout)}")
        if frames // BLOCK < self.blocks[1]:
            raise UsageError(
                f"a region of up to {self.blocks[1]} blocks of {BLOCK} frames does not fit clips of {frames}; "
                f"prepare at least {self.blocks[1] * BLOCK} frames, or ask for at most {frames // BLOCK} blocks"
            )
        draws, rows = draws.shared_once() if self.per == "batch" else (draws, None)
        numbers = draws.child(0).integers(3, 0, 1 << BITS)
        what, of, (least, most) = "parts", len(self.layout.parts), self.parts
        if self.joints:
            what, of, (least, most) = "joints", joints, self.joints
        count = least + below(numbers[:, 0], most - least + 1)
        length = self.blocks[0] + below(numbers[:, 1], self.blocks[1] - self.blocks[0] + 1)
        first = below(numbers[:, 2], frames // BLOCK - length + 1)
        rank = draws.child(1).uniform(of).argsort(1).argsort(1)
        drawn = {what: rank < count[:, None], "first": first, "length": length}
        return drawn if rows is None else {key: each.index_select(0, rows) for key, each in drawn.items()}

    def mask(self, params: dict[str, Tensor], steps: int, per_block: int = 1) -> Tensor:
        """Return bool[N,steps,V], true inside the region; a block has `per_block` steps."""
        return self.masks(params, steps, per_block)[1]

    def masks(self, params: dict[str, Tensor], steps: int, per_block: int) -> tuple[Tensor, Tensor]:
        """Return bool[N,steps/per_block,V], true inside the region, and bool[N,steps,V], the same for steps."""
        first, length = params["first"], params["length"]
        chosen = params["joints"] if self.joints else params["parts"]
        if self.joints:
            of = torch.arange(chosen.shape[1], device=first.device)
        else:
            of = part_of_joint(self.layout, first.device)
        if first.device.type == "cpu" and not torch.compiler.is_compiling():
            return cpu_kernels.spans(chosen, of, first, length, steps, per_block)
        block = torch.arange(steps, device=first.device) // per_block
        inside = (block >= first[:, None]) & (block < (first + length)[:, None])
        fine = inside[:, :, None] & chosen.index_select(1, of)[:, None]
        return fine[:, : steps // per_block * per_block : per_block], fine


def part_of_joint(layout: Layout, device: torch.device) -> Tensor:
    """Return int64[V]: the number, in the layout's order, of the body part that each joint belongs to."""
    return _part_of_joint(tuple(layout.parts.values()), device)


@cache
def _part_of_joint(parts: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    of = {joint: number for number, joints in enumerate(parts) for joint in joints}
    return torch.tensor([of[joint] for joint in sorted(of)], device=device)
