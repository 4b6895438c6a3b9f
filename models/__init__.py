"""Graphs, backbones, heads, losses and methods."""

from skelpipe.models.build import build_encoder, build_method
from skelpipe.models.released import load_released

__all__ = ["build_encoder", "build_method", "load_released"]
