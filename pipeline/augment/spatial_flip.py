"""Spatial flip: left and right joints change places."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from skelpipe.augment.chance import gate
from skelpipe.augment.draws import Draws
from skelpipe.augment.joints import reorder
from skelpipe.augment.settings import OfLayout, SpatialFlipSettings

__all__ = ["SpatialFlip"]


@dataclass(frozen=True, slots=True)
class SpatialFlip(SpatialFlipSettings, OfLayout):
    """x'[v] = x[mirror(v)] with `probability`: exchange left and right joints (Guo et al. 2022).

    `mirror` is the layout's list of mirror pairs (docs/conventions.md). No coordinate changes its sign, as in all
    released code.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `on`, bool[N]."""
        return {"on": gate(draws.uniform(1)[:, 0], self.probability)}

    def joints(self, params: dict[str, Tensor], count: int) -> Tensor:
        """Return int64[N,count]: for each joint of the flipped clip, the joint of the clip that it comes from."""
        if count != len(self.layout):
            raise ValueError(f"the layout {self.layout.name} does not fit clips of {count} joints")
        on = params["on"]
        return torch.where(on[:, None], *_orders(self.layout.mirror, on.device))

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Flip clips [N,C,T,V,M]; same shape."""
        return reorder(x, self.joints(params, x.shape[3]))


@cache
def _orders(mirror: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the mirrored and the usual order of joints, int64[V]."""
    return torch.tensor(mirror, device=device), torch.arange(len(mirror), device=device)
