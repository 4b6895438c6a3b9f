"""Number mask: a share of all numbers of a clip is zero, each by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from skelpipe.augment.chance import gate
from skelpipe.augment.draws import Draws
from skelpipe.augment.noise_pool import draw_start, window
from skelpipe.augment.scores import with_scores
from skelpipe.augment.settings import NumberMaskSettings
from skelpipe.views import POSITIONS, positions

__all__ = ["NumberMask"]


@dataclass(frozen=True, slots=True)
class NumberMask(NumberMaskSettings):
    """x' = 0 for each axis, frame, joint and body with chance `share`, with `probability`.

    What stays is not scaled. The source of ActCLR of December 2023 has it among its transformations, but in no
    view. What is zero in a clip is chosen by a window of one fixed pool.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `share`, float32[N], or 0 where the gate is closed, and `start`, int64[N], of the pool's window."""
        unit = draws.uniform(2)
        length = min(shape[1], POSITIONS) * prod(shape[2:])
        on = gate(unit[:, 0], self.probability)
        return {"share": on * unit.new_full((), self.share), "start": on * draw_start(unit[:, 1], length)}

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Mask clips [N,C,T,V,M]; same shape. Scores stay."""
        seen = positions(x)
        field = window("uniform", params["start"], prod(seen.shape[1:]))
        keep = (field >= params["share"][:, None]).view(seen.shape)
        return with_scores(seen * keep, x)
