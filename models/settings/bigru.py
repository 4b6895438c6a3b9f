"""The settings of BIGRU: see `skelpipe.models.bigru`."""

from dataclasses import dataclass
from typing import Literal

from skelpipe.models.settings.common import BackboneSettings
from skelpipe.settings import Count, Variant

__all__ = ["BIGRUSettings"]


@dataclass(frozen=True, kw_only=True)
class BIGRUSettings(BackboneSettings):
    """The `encoder` section for BIGRU."""

    name: Literal["bigru"] = "bigru"
    hidden: Count = 1024
    layers: Count = 3
    persons: Count = 2
    output: Literal["last", "mean"] = "last"
    variant: Variant = "paper"
