"""Shear: random shares of the other two axes are added to each axis."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.settings import ShearSettings
from skelpipe.augment.warp import warp
from skelpipe.views import POSITIONS

__all__ = ["Shear"]


@dataclass(frozen=True, slots=True)
class Shear(ShearSettings):
    """x' = R x on the axes of every joint and frame (Chen et al. 2022, eq. 8).

    R has ones on its diagonal; its other six entries are independent a_ij ~ U(-amplitude, amplitude).
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `matrix`, float32[N,3,3], for clips of `shape` [N,C,T,V,M]."""
        if shape[1] < POSITIONS:
            raise ValueError(f"a shear needs the axes x, y, z; these clips have {shape[1]} channels")
        shares = draws.uniform(6, -self.amplitude, self.amplitude)
        matrix = shares.new_ones(len(shares), 9)
        # Row by row R is 1 a a a 1 a a a 1: twice a one with three shares, then a one.
        matrix[:, :8].view(-1, 2, 4)[:, :, 1:] = shares.view(-1, 2, 3)
        return {"matrix": matrix.view(-1, 3, 3)}

    def matrix(self, params: dict[str, Tensor]) -> Tensor:
        """Return float32[N,3,3]: the mixture of axes, y = matrix @ x."""
        return params["matrix"]

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Shear clips [N,C,T,V,M]; same shape. Scores stay."""
        return warp(x, matrix=self.matrix(params))
