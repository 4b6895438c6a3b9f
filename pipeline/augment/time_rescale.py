"""Time rescale: a clip becomes faster or slower."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.chance import gate
from skelpipe.augment.clip_program import TIME, Part
from skelpipe.augment.draws import Draws
from skelpipe.augment.settings import TimeRescaleSettings
from skelpipe.augment.warp import warp

__all__ = ["TimeRescale"]


@dataclass(frozen=True, slots=True)
class TimeRescale(TimeRescaleSettings):
    """Resize the clip to L = floor(r T) frames, at least 1, r ~ U(low, high); cut it at T or fill up with zeros.

    Linear interpolation; source position of frame i: (i + 0.5) T / L - 0.5, clamped to the ends, as in
    preprocessing (docs/profiles.md). Only the released ActCLR has it: divergence `actclr-transformations`.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `on`, bool[N], and `ratio` r, float32[N], 1 where off."""
        unit = draws.uniform(2)
        on = gate(unit[:, 0], self.probability)
        return {"on": on, "ratio": torch.where(on, self.low + (self.high - self.low) * unit[:, 1], 1.0)}

    def part(self, params: dict[str, Tensor], shape: Sequence[int]) -> Part:
        """Return this rescale as a step of a program."""
        first, weights = _frames(params["ratio"], shape[2])
        return Part(TIME, list(weights), [params["on"], first])

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Rescale clips [N,C,T,V,M]; same shape. Scores are interpolated like positions."""
        return self.change(x.clone(memory_format=torch.contiguous_format), params)

    def change(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Do as `apply`, in place where that is faster."""
        first, weights = _frames(params["ratio"], x.shape[2])
        if cpu_kernels.usable(x, weights):
            cpu_kernels.interpolate(x, params["on"], first, weights)
            return x
        wide = weights[:, :, None, :, None, None]
        y = warp(x, first).to(torch.promote_types(x.dtype, weights.dtype)).mul(wide[0])
        return y.addcmul_(warp(x, (first + 1).clamp_(max=x.shape[2] - 1)), wide[1]).to(x.dtype)


def _frames(ratio: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return what floor(ratio * T) frames are interpolated from, for clips of T = `count`.

    The frame before each, int64[N,T], and the weights of that frame and the next, [2,N,T] in ratio's dtype.
    """
    # In float64: the length is exact, and positions are not off by 1e-5 of a frame.
    length = (ratio.double() * count).floor_().clamp_(min=1)[:, None]
    t = torch.arange(count, device=ratio.device)
    source = ((t + 0.5) * (count / length) - 0.5).clamp_(0, count - 1)
    before = source.floor()
    share, inside = (source - before).to(ratio.dtype), t < length
    return before.long(), torch.stack([(1 - share) * inside, share * inside])
