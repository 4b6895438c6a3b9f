"""The settings of CrosSCLR: see `skelpipe.models.crosclr`."""

from dataclasses import dataclass
from typing import Annotated

from skelpipe.models.settings.common import ContrastSettings
from skelpipe.settings import Count, Flag, Whole, at_least, at_most

__all__ = ["CrosSCLRSettings"]


@dataclass(frozen=True, kw_only=True)
class CrosSCLRSettings(ContrastSettings):
    """The `crosclr` section; see `CrosSCLR`. Values of the released code."""

    views: Annotated[Count, at_least(2), at_most(3)] = 3
    mining_epoch: Whole = 150
    top_k: Count = 1
    context: Flag = True
