"""Graphs, backbones, heads, losses and methods."""

from skelpipe.models.backbone import Backbone
from skelpipe.models.build import build_encoder, build_method
from skelpipe.models.method import Method, Step
from skelpipe.models.parts import ContrastSettings, ProjectionSettings
from skelpipe.models.released import load_released
from skelpipe.models.settings import BackboneSettings

__all__ = [
    "Backbone",
    "BackboneSettings",
    "ContrastSettings",
    "Method",
    "ProjectionSettings",
    "Step",
    "build_encoder",
    "build_method",
    "load_released",
]
