"""Temporal crop: pad the clip by reflected frames, take T frames from a random start."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.draws import Draws
from skelpipe.augment.settings import CropSettings
from skelpipe.augment.warp import warp

__all__ = ["Crop"]


@dataclass(frozen=True, slots=True)
class Crop(CropSettings):
    """Pad p = T // ratio reflected frames at both ends, edge frame included; take T frames from start s in 0..2p.

    s is uniform; s = p gives the clip back. Ratio 0 pads nothing. Chen et al. 2022, section IV-B.
    """

    def padding(self, frames: int) -> int:
        """Return p, the number of frames reflected at each end of a clip of `frames`."""
        return frames // self.ratio if self.ratio else 0

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `start`, int64[N] uniform in 0..2p, for clips of `shape` [N,C,T,V,M]."""
        return {"start": draws.integers(1, 0, 2 * self.padding(shape[2]) + 1)[:, 0]}

    def frames(self, params: dict[str, Tensor], count: int) -> Tensor:
        """Return int64[N,count]: for each frame of the crop, the frame of the clip that it comes from."""
        start = params["start"]
        if cpu_kernels.usable() and start.device.type == "cpu":
            return cpu_kernels.reflected(start - self.padding(count), count)
        last = count - 1
        t = start[:, None] + torch.arange(-self.padding(count), count - self.padding(count), device=start.device)
        return last - _fold(last - _fold(t))

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Crop clips [N,C,T,V,M] at the drawn starts; same shape."""
        return warp(x, frames=self.frames(params, x.shape[2]))


def _fold(t: Tensor) -> Tensor:
    """Reflect -1, -2, ... to 0, 1, ...: all bits are inverted where the sign bit is set."""
    return t ^ (t >> 63)
