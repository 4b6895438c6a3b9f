"""The settings of methods and backbones, one file for each; recipes are checked by them without torch."""

from skelpipe.models.settings.common import (
    AbsentBodies,
    BackboneSettings,
    ContrastSettings,
    HeadSettings,
    Initialiser,
    NoSettings,
    ProjectionSettings,
    refuse_unused,
)

__all__ = [
    "AbsentBodies",
    "BackboneSettings",
    "ContrastSettings",
    "HeadSettings",
    "Initialiser",
    "NoSettings",
    "ProjectionSettings",
    "refuse_unused",
]
