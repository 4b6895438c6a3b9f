"""Centred shear: a shear in which the centre joint stays where it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.settings import OfLayout, ShearSettings
from skelpipe.augment.shear import Shear
from skelpipe.augment.warp import warp
from skelpipe.views import positions

__all__ = ["CentredShear"]


@dataclass(frozen=True, slots=True)
class CentredShear(ShearSettings, OfLayout):
    """`Shear` of all joints but the centre, which keeps its place.

    So the released ActCLR shears (divergence `actclr-transformations`). After the `crosclr` preprocessing the
    centre of every body is the origin, and there is no difference to `Shear`.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `matrix`, float32[N,3,3], for clips of `shape` [N,C,T,V,M]."""
        return Shear(self.amplitude).sample(draws, shape)

    def centred(self, params: dict[str, Tensor]) -> tuple[Tensor, int]:
        """Return the matrix, float32[N,3,3], and the joint that stays."""
        return params["matrix"], self.layout.centre

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Shear clips [N,C,T,V,M]; same shape. Scores stay."""
        y = warp(x, matrix=params["matrix"])
        positions(y)[:, :, :, self.layout.centre] = positions(x)[:, :, :, self.layout.centre]
        return y
