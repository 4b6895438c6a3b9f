"""Memory of this process: reuse of what was freed, and how much is in use."""

import os

__all__ = ["keep_freed_memory", "memory_in_use"]


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks for later use instead of returning their pages to the system.

    glibc keeps blocks up to the size of the largest block freed so far, with this size as its limit; so one such
    block is allocated and freed. Otherwise each batch would fault in its pages again, which takes longer than the
    work on them. Nothing is written to the block, so it costs nothing.
    """
    import numpy as np  # commands import this module before they check their options

    np.empty((32 << 20) - (16 << 10), np.uint8)


def memory_in_use() -> int:
    """Return the bytes of memory that this process uses; 0 where the system does not say it in `/proc`."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
