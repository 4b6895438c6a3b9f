"""The settings of backbones and methods: the kinds of `skelpipe.settings`, and those that only models have."""

from dataclasses import dataclass
from typing import Literal

from skelpipe.settings import (
    Amount,
    Bounds,
    Count,
    Flag,
    Positive,
    Share,
    Variant,
    Whole,
    checked,
    flat,
    is_section,
    nested,
    with_sections,
)

__all__ = [
    "Amount",
    "BackboneSettings",
    "Bounds",
    "Count",
    "Flag",
    "Initialiser",
    "Positive",
    "Share",
    "Variant",
    "Whole",
    "checked",
    "flat",
    "is_section",
    "nested",
    "with_sections",
]

Initialiser = Literal["paper", "default"]


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The `encoder` section: the backbone's `name`, and in a subclass its settings."""

    name: str = ""
