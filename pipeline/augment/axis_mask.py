"""Axis mask: one coordinate axis of a clip is zero."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelpipe.augment.chance import gate, whole
from skelpipe.augment.draws import Draws
from skelpipe.augment.settings import AxisMaskSettings
from skelpipe.augment.warp import weigh
from skelpipe.views import POSITIONS

__all__ = ["AxisMask"]


@dataclass(frozen=True, slots=True)
class AxisMask(AxisMaskSettings):
    """x'[c] = 0 for one axis c of the whole clip, each equally likely, with `probability`.

    Guo et al. 2022, "Data Augmentations"; the channel mask of MsMCLR (Wu et al., sec. 3.3) is the same.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `keep`, float32[N,3]: 0 for the axis that is masked, 1 for the others."""
        unit = draws.uniform(2)
        count = min(shape[1], POSITIONS)
        axis = whole(unit[:, 1:], 0, count)
        masked = (axis == torch.arange(count, device=unit.device)) & gate(unit[:, :1], self.probability)
        return {"keep": (~masked).to(unit.dtype)}

    def weights(self, params: dict[str, Tensor]) -> Tensor:
        """Return float32[N,3]: the factor of each axis."""
        return params["keep"]

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Mask clips [N,C,T,V,M]; same shape. Scores stay."""
        return weigh(x, self.weights(params))
