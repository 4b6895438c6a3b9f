"""Joint mask: some joints are zero for a span of frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.chance import gate, some, whole
from skelpipe.augment.clip_program import MASK, Part
from skelpipe.augment.draws import Draws
from skelpipe.augment.settings import JointMaskSettings

__all__ = ["JointMask"]


@dataclass(frozen=True, slots=True)
class JointMask(JointMaskSettings):
    """x' = 0 in `fewest` to `most` joints of all bodies in one span of T/4 to T/2 frames, with `probability`.

    A masked joint is one that was not seen: its score becomes 0 too.

    The number of joints, the joints (without replacement), the length of the span and its first frame are uniform.
    Wu et al., sec. 3.3, name it without parameters; these are ours.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `joints`, bool[N,V] (none where the gate is closed), `first` and `length`, int64[N] in frames."""
        t, v = shape[2:4]
        unit = draws.uniform(4 + v)
        count = whole(unit[:, 1], min(self.fewest, v), min(self.most, v) + 1)
        length = whole(unit[:, 2], t // 4, t // 2 + 1)
        first = whole(unit[:, 3], 0, t - length + 1)
        on = gate(unit[:, 0], self.probability)
        return {"joints": some(unit[:, 4:], count * on), "first": first, "length": length}

    def part(self, params: dict[str, Tensor], shape: Sequence[int]) -> Part:
        """Return this mask as a step of a program."""
        return Part(MASK, [], [params["first"], params["length"], params["joints"]])

    def keep(self, params: dict[str, Tensor], count: int) -> Tensor:
        """Return float32[N,count,V]: 0 in the masked joints and frames, else 1."""
        first = params["first"][:, None]
        t = torch.arange(count, device=first.device)
        span = (t >= first) & (t < first + params["length"][:, None])
        return (~(span[:, :, None] & params["joints"][:, None])).to(torch.float32)

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Mask clips [N,C,T,V,M]; same shape."""
        if cpu_kernels.usable(x):
            return self.change(x.clone(memory_format=torch.contiguous_format), params)
        return x * self._wide(x, params)

    def change(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Do as `apply`, in place."""
        if cpu_kernels.usable(x):
            cpu_kernels.zero_joints(x, params["joints"], params["first"], params["length"])
            return x
        return x.mul_(self._wide(x, params))

    def _wide(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Return the mask [N,1,T,V,M], expanded over bodies: a broadcast last dimension is slow."""
        keep = self.keep(params, x.shape[2]).to(x.dtype)
        return keep[:, None, :, :, None].expand(-1, -1, -1, -1, x.shape[4]).contiguous()
