"""Graphs, backbones, heads, losses and methods."""

from skelpipe.models.authors import load_checkpoint
from skelpipe.models.build import build_encoder, build_method

__all__ = ["build_encoder", "build_method", "load_checkpoint"]
