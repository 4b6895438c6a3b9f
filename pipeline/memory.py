"""Reuse of freed memory in this process."""

import numpy as np

__all__ = ["keep_freed_memory"]


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks for later use instead of returning their pages to the system.

    glibc keeps blocks up to the size of the largest block freed so far, with this size as its limit; so one such
    block is allocated and freed. Otherwise each batch would fault in its pages again, which takes longer than the
    work on them. Nothing is written to the block, so it costs nothing.
    """
    np.empty((32 << 20) - (16 << 10), np.uint8)
