"""Waiting for what may never come: a deadline, Ctrl-C, or that nobody wants it any more ends the wait.

Clients written in C know neither; what they do is done on another thread, and waited for here.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import ContextVar
from typing import TypeVar

from skelpipe.errors import SkelpipeError

__all__ = [
    "LateError",
    "UnwantedError",
    "give_up_when",
    "pause",
    "result_of",
    "settle",
    "unless_unwanted",
    "within",
]

T = TypeVar("T")

STEP_SECONDS = 0.1  # between two looks whether the result is still wanted


class LateError(Exception):
    """A deed took longer than it may."""


class UnwantedError(SkelpipeError):
    """Nobody wants the result any more that this thread waits for."""


_unwanted: ContextVar[Callable[[], bool] | None] = ContextVar("unwanted", default=None)


def give_up_when(unwanted: Callable[[], bool]) -> None:
    """Have all that this thread waits for from now on end with UnwantedError once `unwanted()` is true.

    For a thread that somebody joins: whoever that is would wait as long otherwise.
    """
    _unwanted.set(unwanted)


def result_of(future: "Future[T]", seconds: float | None = None) -> T:
    """Return the result of a future, or raise its error; LateError after `seconds`, UnwantedError as above."""
    unwanted = _unwanted.get()
    end = None if seconds is None else time.monotonic() + seconds
    while not future.done():
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise LateError
        if unwanted is not None:
            _end_if(unwanted)
            left = STEP_SECONDS if left is None else min(left, STEP_SECONDS)
        wait((future,), left)
    return future.result()


def within(seconds: float | None, deed: Callable[[], T]) -> T:
    """Return what `deed` returns; LateError or UnwantedError as `result_of`.

    It is done on a thread of its own, which goes on with it in any case and holds up no exit of the process.
    """
    future: Future[T] = Future()
    threading.Thread(target=settle, args=(future, deed), name="skelpipe-call", daemon=True).start()
    return result_of(future, seconds)


def unless_unwanted(deed: Callable[[], T]) -> T:
    """Return what `deed` returns, which Ctrl-C reaches anyway; UnwantedError where this thread was told when."""
    return deed() if _unwanted.get() is None else within(None, deed)


def settle(future: "Future[T]", deed: Callable[[], T]) -> None:
    """Do it, and give the future its result or error; nothing of either stays with this thread."""
    try:
        result = deed()
    except BaseException as error:  # whatever it is, it belongs to who asked
        future.set_exception(error)
    else:
        future.set_result(result)


def pause(seconds: float) -> None:
    """Sleep; UnwantedError once this thread's work is unwanted."""
    unwanted = _unwanted.get()
    if unwanted is None:
        time.sleep(seconds)
        return
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _end_if(unwanted)
        time.sleep(min(left, STEP_SECONDS))


def _end_if(unwanted: Callable[[], bool]) -> None:
    if unwanted():
        raise UnwantedError("stopped: nobody waits for it any more")
