"""What SIGTERM and its kin do to a command: it ends in good order, with one line and exit code 143.

Windows has neither SIGTERM nor SIGUSR1 from outside; there a console sends SIGBREAK (Ctrl-Break).
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["HANDLED", "PREEMPTING", "TERMINATED", "Ended", "Stopped", "ending_on_signals", "saying_what_ended"]

TERMINATED = 128 + signal.SIGTERM  # the exit code after any of these signals
NAMES = ("SIGTERM", "SIGUSR1", "SIGBREAK")  # by which a scheduler or a user ends a command
PREEMPTING = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))

HANDLED: list[object] = []  # not empty while this process does something of its own on a signal
_before = threading.local()  # the signals that this thread had blocked before it forked


class Stopped(SystemExit):
    """A training has stopped because of a signal, and its checkpoint is written. The exit code is 143."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


class Ended(Stopped):
    """A command has ended because of the signal `number`, outside of any training."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.said = number, False


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Raise Ended inside where one of the signals comes, while no training notes them: nothing would be saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        raise Ended(number)

    before = {number: signal.signal(number, end) for number in PREEMPTING}
    HANDLED.append(end)
    try:
        yield
    finally:
        HANDLED.remove(end)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def saying_what_ended(advice: str) -> Iterator[None]:
    """Say in one line that a signal has ended the command outside of any training; of several ranks, one does."""
    try:
        with ending_on_signals():
            yield
    except Ended as ended:
        if not ended.said and os.environ.get("RANK", "0") == "0":
            print(f"{signal.Signals(ended.number).name}: ended; {advice}", file=sys.stderr)
        ended.said = True
        raise


def _hold() -> None:
    """Block the signals in a forked process until `_forget`: they would end, or stop, its parent instead."""
    if HANDLED:
        _before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, PREEMPTING)


def _release() -> None:
    mask, _before.mask = getattr(_before, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forget() -> None:
    """Let the signals end a forked process as usual, and not its parent."""
    if HANDLED:
        signal.set_wakeup_fd(-1)
        for number in PREEMPTING:
            signal.signal(number, signal.SIG_DFL)
    _release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forget)
