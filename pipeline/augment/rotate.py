"""Rotation about all three axes, one of them by a large angle."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment.chance import whole
from skelpipe.augment.draws import Draws
from skelpipe.augment.settings import RotateSettings
from skelpipe.augment.warp import warp
from skelpipe.views import POSITIONS

__all__ = ["Rotate"]


@dataclass(frozen=True, slots=True)
class Rotate(RotateSettings):
    """x' = Rz Ry Rx x: rotate about x, then y, then z (Guo et al. 2022, "Data Augmentations").

    One main axis is drawn, each equally likely. Its angle is U(0, main) degrees, those of the other two are
    U(0, other) degrees: never negative. The papers give no angles; these are those of the released code.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `angle`, float32[N,3] about x, y, z in radians, and the rotation `matrix`, float32[N,3,3]."""
        if shape[1] < POSITIONS:
            raise ValueError(f"a rotation needs the axes x, y, z; these clips have {shape[1]} channels")
        unit = draws.uniform(4)
        is_main = whole(unit[:, :1], 0, 3) == torch.arange(3, device=unit.device)
        angle = unit[:, 1:] * torch.where(is_main, self.main, self.other).to(unit.dtype).deg2rad_()
        return {"angle": angle, "matrix": _rotation(angle)}

    def matrix(self, params: dict[str, Tensor]) -> Tensor:
        """Return float32[N,3,3]: the mixture of axes, y = matrix @ x."""
        return params["matrix"]

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Rotate clips [N,C,T,V,M]; same shape. Scores stay."""
        return warp(x, matrix=self.matrix(params))


def _rotation(angle: Tensor) -> Tensor:
    """Return Rz Ry Rx, [N,3,3], of angles [N,3], for column vectors.

    Rx = [1 0 0; 0 c s; 0 -s c], Ry = [c 0 -s; 0 1 0; s 0 c], Rz = [c s 0; -s c 0; 0 0 1].
    """
    (cx, cy, cz), (sx, sy, sz) = angle.cos().unbind(1), angle.sin().unbind(1)
    sysx, sycx = sy * sx, sy * cx
    rows = [cz * cy, cz * sysx + sz * cx, sz * sx - cz * sycx]
    rows += [-sz * cy, cz * cx - sz * sysx, sz * sycx + cz * sx]
    rows += [sy, -cy * sx, cy * cx]
    return torch.stack(rows, 1).view(-1, 3, 3)
