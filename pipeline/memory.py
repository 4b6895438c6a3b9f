"""How this process keeps memory that it will need again."""

import numpy as np

__all__ = ["keep_freed_memory"]


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next ones instead of returning their pages to the system.

    It learns from the largest block freed so far, up to this size; without it the pages of a batch, freed and
    faulted in again each time, cost more than the work on them. Nothing is written, so the block itself costs
    nothing.
    """
    np.empty((32 << 20) - (16 << 10), np.uint8)
