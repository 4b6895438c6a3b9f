"""Checkpoints that the papers' authors released: whose file it is, how its weights are named, how it loads."""

from skelpipe.models.released.checkpoint import Branch, ReleasedCheckpoint, load_released

__all__ = ["Branch", "ReleasedCheckpoint", "load_released"]
