"""The settings of CrosSCLR: see `skelpipe.models.crosclr`."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from skelpipe.models.settings.common import ContrastSettings
from skelpipe.settings import Count, Flag, Whole

__all__ = ["CrosSCLRSettings"]


@dataclass(frozen=True, kw_only=True)
class CrosSCLRSettings(ContrastSettings):
    """The `crosclr` section; see `CrosSCLR`. Values of the released code."""

    views: Annotated[Count, Ge(2), Le(3)] = 3
    mining_epoch: Whole = 150
    top_k: Count = 1
    context: Flag = True
