"""Augmentations of the axes and of left and right (spec B): rotation, axis mask, spatial flip."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from skelpipe.augment.chance import check_probability, gate, whole
from skelpipe.augment.draws import Draws
from skelpipe.augment.joints import reorder
from skelpipe.augment.warp import warp, weigh
from skelpipe.skeleton import Layout

__all__ = ["AxisMask", "Rotate", "SpatialFlip"]


@dataclass(frozen=True, slots=True)
class Rotate:
    """Rotate about x, then y, then z. One axis, each equally likely, is the main one.

    Its angle is U(0, main) degrees, those of the other two U(0, other): never negative, as released.
    """

    main: float = 30.0
    other: float = 1.0

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `angle`, float32[N,3] about x, y, z in radians, and the rotation `matrix`, float32[N,3,3]."""
        if shape[1] != 3:
            raise ValueError(f"a rotation needs the axes x, y, z; these clips have {shape[1]}")
        unit = draws.uniform(4)
        is_main = whole(unit[:, :1], 0, 3) == torch.arange(3, device=unit.device)
        angle = unit[:, 1:] * torch.where(is_main, self.main, self.other).to(unit.dtype).deg2rad_()
        return {"angle": angle, "matrix": _rotation(angle)}

    def matrix(self, params: dict[str, Tensor]) -> Tensor:
        """Return float32[N,3,3]: the mixture of axes, y = matrix @ x."""
        return params["matrix"]

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Rotate clips [N,3,T,V,M]; same shape."""
        return warp(x, matrix=self.matrix(params))


@dataclass(frozen=True, slots=True)
class AxisMask:
    """Zero one coordinate axis, each equally likely, for the whole clip (the channel mask of MsMCLR)."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self.probability)

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `keep`, float32[N,C]: 0 for the axis that is zeroed, 1 for the others."""
        unit = draws.uniform(2)
        axis = whole(unit[:, 1:], 0, shape[1])
        masked = (axis == torch.arange(shape[1], device=unit.device)) & gate(unit[:, :1], self.probability)
        return {"keep": (~masked).to(unit.dtype)}

    def weights(self, params: dict[str, Tensor]) -> Tensor:
        """Return float32[N,C]: the factor of each axis."""
        return params["keep"]

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Mask clips [N,C,T,V,M]; same shape."""
        return weigh(x, self.weights(params))


@dataclass(frozen=True, slots=True)
class SpatialFlip:
    """Exchange left and right joints (spec A4); coordinates are not mirrored, as released."""

    layout: Layout
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self.probability)

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `on`, bool[N]."""
        return {"on": gate(draws.uniform(1)[:, 0], self.probability)}

    def joints(self, params: dict[str, Tensor], count: int) -> Tensor:
        """Return int64[N,count]: the joint of the clip that each joint of the flipped clip is."""
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


def _rotation(angle: Tensor) -> Tensor:
    """Return Rz Ry Rx, [N,3,3], of angles [N,3]; spec B gives the three for column vectors."""
    (cx, cy, cz), (sx, sy, sz) = angle.cos().unbind(1), angle.sin().unbind(1)
    sysx, sycx = sy * sx, sy * cx
    rows = [cz * cy, cz * sysx + sz * cx, sz * sx - cz * sycx]
    rows += [-sz * cy, cz * cx - sz * sysx, sz * sycx + cz * sx]
    rows += [sy, -cy * sx, cy * cx]
    return torch.stack(rows, 1).view(-1, 3, 3)
