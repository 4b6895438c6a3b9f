"""The settings of DSTA: see `skelpipe.models.dsta`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from skelpipe.models.settings.common import AbsentBodies, BackboneSettings
from skelpipe.settings import Count, multiple_of

__all__ = ["DSTASettings"]


@dataclass(frozen=True, kw_only=True)
class DSTASettings(BackboneSettings):
    """The `encoder` section for DSTA: its widths, and the attention maps per unit.

    There is no dropout; the 8 heads and the dropout of Hua et al. 2023, table 16, belong to other layers
    (divergence `dsta-heads`). So absent bodies are computed once in any case; "masked" leaves them out.
    """

    name: Literal["dsta"] = "dsta"
    width: Annotated[Count, multiple_of(4)] = 64
    heads: Count = 3
    absent_bodies: AbsentBodies = "as-papers"
