"""Checkpoints that the authors of the papers published: how their weights are named, and how to load them."""

from skelpipe.models.released.checkpoint import Branch, ReleasedCheckpoint, load_released

__all__ = ["Branch", "ReleasedCheckpoint", "load_released"]
