"""Graphs, backbones, heads, losses and methods; what it offers is imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skelpipe.models.backbone import Backbone
    from skelpipe.models.build import build_encoder, build_method
    from skelpipe.models.method import Method, Step
    from skelpipe.models.released import load_released
    from skelpipe.models.settings import BackboneSettings, ContrastSettings, ProjectionSettings

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

_HOMES = {
    "Backbone": "backbone",
    "BackboneSettings": "settings",
    "ContrastSettings": "settings",
    "Method": "method",
    "ProjectionSettings": "settings",
    "Step": "method",
    "build_encoder": "build",
    "build_method": "build",
    "load_released": "released",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'skelpipe.models' has no attribute {name!r}")
    found = getattr(import_module(f"skelpipe.models.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
