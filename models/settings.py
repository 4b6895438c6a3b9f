"""The kinds of settings that only models have, beside those of `skelpipe.settings`."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["BackboneSettings", "Initialiser"]

Initialiser = Literal["paper", "default"]


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The `encoder` section: the backbone's `name`, and in a subclass its settings."""

    name: str = ""
