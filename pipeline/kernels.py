"""Kernels of numba: `njit` for all that skelpipe compiles, which says so when a compilation takes place.

A kernel is compiled when it is first called and kept on disk, so that this happens once per machine and version
(`skelpipe doctor` shows where). Its user would else wait without knowing what for.
"""

import atexit
import os
import sys
import tempfile
import time
from contextlib import suppress
from typing import Any, Final

from numba import njit
from numba.core import event

from skelpipe.door.visible import beneath

__all__ = ["COMPILING", "njit"]

# Names a file that the first process to compile makes: of it and all that it starts, one says it.
COMPILING: Final = "SKELPIPE_COMPILING"
LINE: Final = "compiling kernels for this machine, which is done once: up to half a minute"


class _Listener(event.Listener):
    """Says that a kernel of skelpipe is compiled. Those of numba itself are compiled anew by every process."""

    def on_start(self, started: Any) -> None:
        function = started.data["dispatcher"].py_func
        ours = (function.__module__ or "").startswith("skelpipe.")  # a function made by exec may have none
        if ours and os.environ.get("RANK", "0") == "0" and _first():
            with suppress(OSError, ValueError, AttributeError):
                print(LINE, file=beneath(sys.stderr), flush=True)

    def on_end(self, ended: Any) -> None:
        """Say nothing more."""


def _first() -> bool:
    """Return whether no process of this command has said it."""
    file = os.environ.get(COMPILING)
    if not file:
        return True
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return False
    return True


def _forget(file: str) -> None:
    with suppress(OSError):
        os.unlink(file)


if COMPILING not in os.environ:
    os.environ[COMPILING] = os.path.join(
        tempfile.gettempdir(), f"skelpipe-compiling-{os.getpid()}-{time.time_ns()}"
    )
    atexit.register(_forget, os.environ[COMPILING])
event.register("numba:compile", _Listener())
