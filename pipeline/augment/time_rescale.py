"""Time rescale: a clip becomes faster or slower."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment.chance import chosen, gate
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

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Rescale clips [N,C,T,V,M]; same shape. Scores are interpolated like positions."""
        return self.change(x.clone(), params)

    def change(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Do as `apply`, in place where that is faster."""
        rows = chosen(params["on"])
        if rows is None:
            return _stretch(x, params["ratio"])
        return x.index_copy_(0, rows, _stretch(x.index_select(0, rows), params["ratio"][rows]))


def _stretch(x: Tensor, ratio: Tensor) -> Tensor:
    """Resize each clip [T] to floor(ratio * T) frames by linear interpolation; same shape."""
    count = x.shape[2]
    # In float64: the length is exact, and positions are not off by 1e-5 of a frame.
    length = (ratio.double() * count).floor_().clamp_(min=1)[:, None]
    t = torch.arange(count, device=x.device)
    source = ((t + 0.5) * (count / length) - 0.5).clamp_(0, count - 1)
    before = source.floor()
    share, inside = (source - before).to(ratio.dtype), t < length
    first = before.long()
    weights = torch.stack([(1 - share) * inside, share * inside])[:, :, None, :, None, None]
    y = warp(x, first).to(torch.promote_types(x.dtype, weights.dtype)).mul(weights[0])
    return y.addcmul_(warp(x, (first + 1).clamp_(max=count - 1)), weights[1]).to(x.dtype)
