"""Temporal flip: a clip runs backwards."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment.chance import gate
from skelpipe.augment.draws import Draws
from skelpipe.augment.settings import TemporalFlipSettings
from skelpipe.augment.warp import warp

__all__ = ["TemporalFlip"]


@dataclass(frozen=True, slots=True)
class TemporalFlip(TemporalFlipSettings):
    """x'[t] = x[T-1-t] with `probability`: reverse the frames (Guo et al. 2022, "Data Augmentations").

    Later versions of the released code never run it: divergence `aimclr-temporal-flip`.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `on`, bool[N]."""
        return {"on": gate(draws.uniform(1)[:, 0], self.probability)}

    def frames(self, params: dict[str, Tensor], count: int) -> Tensor:
        """Return int64[N,count]: for each frame of the flipped clip, the frame of the clip that it comes from."""
        forward = torch.arange(count, device=params["on"].device)
        return torch.where(params["on"][:, None], count - 1 - forward, forward)

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Flip clips [N,C,T,V,M]; same shape."""
        return warp(x, frames=self.frames(params, x.shape[2]))
