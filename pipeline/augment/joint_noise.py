"""Joint noise: a few joints are replaced by uniform noise in the box around the body."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.clip_program import BOXES, Part
from skelpipe.augment.draws import Draws
from skelpipe.augment.noise_pool import draw_start, pool, window
from skelpipe.augment.scores import with_scores
from skelpipe.augment.settings import JointNoiseSettings
from skelpipe.views import POSITIONS, positions

__all__ = ["JointNoise"]


@dataclass(frozen=True, slots=True)
class JointNoise(JointNoiseSettings):
    """Replace `count` joints, drawn once per clip, by U(least, greatest) of each axis (Wu et al., sec. 3.3).

    Least and greatest are over the joints of that body in that frame; a body whose coordinates in a frame sum to 0
    is absent there and stays as it is. The paper has 5 joints, the released code 1: divergence
    `msmclr-strong-augmentation`. The noise of a clip is a window of one fixed pool.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `joints`, int64[N,k], distinct, and `start`, int64[N], of the pool's window."""
        c, (t, v, m) = min(shape[1], POSITIONS), shape[2:]
        k = min(self.count, v)
        unit = draws.uniform(v + 1)
        joints = unit[:, 1:].argsort(dim=1, stable=True)[:, :k]
        return {"joints": joints, "start": draw_start(unit[:, 0], c * t * k * m)}

    def part(self, params: dict[str, Tensor], shape: Sequence[int]) -> Part:
        """Return this noise as a step of a program."""
        c, (t, _, m) = min(shape[1], POSITIONS), shape[2:]
        joints, start = params["joints"], params["start"]
        return Part(BOXES, [], [start, joints], pool=pool("uniform", c * t * joints.shape[1] * m, start.device))

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Replace joints of clips [N,C,T,V,M]; same shape. Scores stay."""
        if cpu_kernels.usable(x):
            return self.change(x.clone(memory_format=torch.contiguous_format), params)
        return with_scores(positions(x).scatter(3, *self._noise(positions(x), params)), x)

    def change(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Do as `apply`, in place."""
        if not cpu_kernels.usable(x):
            positions(x).scatter_(3, *self._noise(positions(x), params))
            return x
        joints, start = params["joints"], params["start"]
        numbers = pool("uniform", joints.shape[1] * positions(x)[:1, :, :, 0].numel(), x.device)
        cpu_kernels.fill_boxes(x, joints, start, numbers)
        return x

    def _noise(self, x: Tensor, params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return which joint to write to, and what, for positions [N,3,T,V,M]: both [N,3,T,k,M]."""
        n, c, t, _, m = x.shape
        k = params["joints"].shape[1]
        at = params["joints"][:, None, None, :, None].expand(n, c, t, k, m)
        low, high = _fold_joints(x, torch.minimum), _fold_joints(x, torch.maximum)
        unit = window("uniform", params["start"], c * t * k * m).view(n, c, t, k, m)
        noise = torch.addcmul(low.to(unit.dtype), unit, (high - low).to(unit.dtype)).to(x.dtype)
        here = x.sum(3, keepdim=True, dtype=unit.dtype).sum(1, keepdim=True) != 0
        return at, torch.where(here, noise, x.gather(3, at))


def _fold_joints(x: Tensor, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the least or greatest over the joints, [N,C,T,1,M].

    Halving is faster than `amin`: it works on long rows.
    """
    while (v := x.shape[3]) > 1:
        half = (v + 1) // 2
        x = extreme(x[:, :, :, :half], x[:, :, :, v - half :])  # the halves may share the middle one
    return x
