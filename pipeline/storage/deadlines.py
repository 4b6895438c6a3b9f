"""Waits that end: with the result, at a deadline, at Ctrl-C, or when nobody needs the result any more.

A call into a client written in C reacts to none of these. It runs on another thread, and the caller waits here.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import ContextVar
from typing import TypeVar

from skelpipe.errors import SkelpipeError

__all__ = [
    "DeadlineError",
    "StoppedError",
    "begin",
    "call_until_stopped",
    "call_within",
    "give_up_when",
    "pause",
    "require_wanted",
    "result_of",
    "run_into",
]

T = TypeVar("T")

STEP_SECONDS = 0.1  # between two checks whether the result is still needed


class DeadlineError(Exception):
    """A call took longer than it may."""


class StoppedError(SkelpipeError):
    """The result that this thread waits for is no longer needed."""


_is_stopped: ContextVar[Callable[[], bool] | None] = ContextVar("is_stopped", default=None)


def give_up_when(is_stopped: Callable[[], bool]) -> None:
    """Let every later wait of this thread end with StoppedError as soon as `is_stopped()` is true.

    For a thread that another thread joins: without this, the other one would wait just as long.
    """
    _is_stopped.set(is_stopped)


def result_of(future: "Future[T]", seconds: float | None = None) -> T:
    """Return the result of a future, or raise its error.

    Raises DeadlineError after `seconds`, and StoppedError where `give_up_when` asks for it.
    """
    is_stopped = _is_stopped.get()
    end = None if seconds is None else time.monotonic() + seconds
    while not future.done():
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise DeadlineError
        if is_stopped is not None:
            _raise_if(is_stopped)
            left = STEP_SECONDS if left is None else min(left, STEP_SECONDS)
        wait((future,), left)
    return future.result()


def call_within(seconds: float | None, function: Callable[[], T]) -> T:
    """Return what `function` returns; raises as `result_of` does.

    It runs on a thread of its own. That thread finishes the call in any case, and the process can end before it.
    """
    return result_of(begin(function), seconds)


def begin(function: Callable[[], T]) -> "Future[T]":
    """Begin a call on a thread of its own, which finishes it in any case; the process can end before it."""
    future: Future[T] = Future()
    threading.Thread(target=run_into, args=(future, function), name="skelpipe-call", daemon=True).start()
    return future


def call_until_stopped(function: Callable[[], T]) -> T:
    """Return what `function` returns, which Ctrl-C interrupts by itself; StoppedError as in `result_of`."""
    return function() if _is_stopped.get() is None else call_within(None, function)


def run_into(future: "Future[T]", function: Callable[[], T]) -> None:
    """Call `function` and put its result or error into `future`; this thread keeps a reference to neither."""
    try:
        result = function()
    except BaseException as error:  # of any kind: it belongs to whoever waits for the future
        future.set_exception(error)
    else:
        future.set_result(result)


def require_wanted() -> None:
    """Raise StoppedError where `give_up_when` asks for it."""
    if (is_stopped := _is_stopped.get()) is not None:
        _raise_if(is_stopped)


def pause(seconds: float) -> None:
    """Sleep; StoppedError as in `result_of`."""
    is_stopped = _is_stopped.get()
    if is_stopped is None:
        time.sleep(seconds)
        return
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _raise_if(is_stopped)
        time.sleep(min(left, STEP_SECONDS))


def _raise_if(is_stopped: Callable[[], bool]) -> None:
    if is_stopped():
        raise StoppedError("stopped: nobody waits for the result any more")
