"""Calls into the S3 client of pyarrow, and what must not happen while one runs: a fork, or waiting at exit.

- A fork would copy the client's locks into the child, where nobody would ever open them. So a fork waits.
- At exit pyarrow waits for all calls of its S3 client. With a server that hangs this is half a minute or more,
  after Ctrl-C as well as after the last batch of a run. So the process ends without that wait.
"""

import atexit
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from types import TracebackType
from typing import TypeVar

from skelpipe.storage.deadlines import begin, call_within

__all__ = ["begin_client", "call_client", "exit_without_waiting"]

T = TypeVar("T")


class _ForkBarrier:
    """While a thread is inside `with` one of these, a fork of this process waits. Do not fork inside."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._open)

    def __enter__(self) -> None:
        with self._changed:
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def is_busy(self) -> bool:
        """Whether any thread is inside."""
        return self._inside > 0

    def _close(self) -> None:
        self._changed.acquire()
        self._changed.wait_for(lambda: self._inside == 0)

    def _open(self) -> None:
        self._changed.release()


_CALLS = _ForkBarrier()


def call_client(function: Callable[[], T], seconds: float | None = None) -> T:
    """Return what a call of the client returns. Ctrl-C and deadlines do not wait for it (see `call_within`)."""

    return call_within(seconds, partial(_guarded, function))


def begin_client(function: Callable[[], T]) -> "Future[T]":
    """Begin a call of the client on a thread of its own; wait for it by `result_of`."""
    return begin(partial(_guarded, function))


def _guarded(function: Callable[[], T]) -> T:
    with _CALLS:
        return function()


@cache
def exit_without_waiting() -> None:
    """Let this process, and those it forks, exit without waiting for calls of the S3 client that still run.

    The interpreter ends as always, with the same exit code. Left out are the clean-up of pyarrow and, since it
    would come later, the destruction of C++ objects. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    from pyarrow import fs

    def leave() -> None:
        with suppress(AttributeError, OSError):
            if _CALLS.is_busy():
                libc = ctypes.CDLL(None)
                libc.on_exit(libc._exit, None)  # runs before what C++ registered earlier, and keeps the exit code
                atexit.unregister(fs.ensure_s3_finalized)

    atexit.register(leave)  # registered after pyarrow's own function, so it runs before that one
