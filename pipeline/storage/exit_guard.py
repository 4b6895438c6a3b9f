"""How a process ends that has requests under way: at once, as it would without them.

At exit pyarrow waits for every call of its S3 client, though nobody wants what it brings: with a server that hangs
that is half a minute and more, after Ctrl-C as well as after a run's last batch.
"""

import atexit
import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache

__all__ = ["leave_without_waiting"]


@cache
def leave_without_waiting(busy: Callable[[], bool]) -> None:
    """Have this process, and those it forks, not wait at exit for calls of the S3 client while any is `busy()`.

    The interpreter ends as always, and with the same exit code; what is left out is pyarrow's clean-up and, since
    that has to come before it, the destruction of C++ objects. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    from pyarrow import fs

    def leave() -> None:
        with suppress(AttributeError, OSError):
            if busy():
                libc = ctypes.CDLL(None)
                libc.on_exit(libc._exit, None)  # run before what C++ registered earlier: with the exit code
                atexit.unregister(fs.ensure_s3_finalized)

    atexit.register(leave)  # after pyarrow registered its own: runs before it
