"""What SIGTERM does: a training stops at its next step, a rank that waits for a dead one ends.

A scheduler that takes a machine away sends SIGTERM (or SIGUSR1) and waits. torchrun sends SIGTERM to the other
ranks when one has died. Windows has neither from outside; there a console sends SIGBREAK (Ctrl-Break).
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = [
    "PREEMPTING",
    "Ended",
    "Interrupted",
    "Signals",
    "Stopped",
    "ending_on_signals",
    "ending_on_sigterm",
    "noting_signals",
    "saying_what_ended",
]

TERMINATED = 128 + signal.SIGTERM  # the exit code after any of these signals
NAMES = ("SIGTERM", "SIGUSR1", "SIGBREAK")  # after which a training stops, with a checkpoint
PREEMPTING = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
STEP_SECONDS = 25.0  # for a step to end; torchrun kills 30 s after SIGTERM
SAVE_SECONDS = 600.0  # for a process that has noted the signal
PATIENCE_SECONDS = 5.0  # for the process to print a message of its own

_reporting: set[int] = set()  # sockets that report signals: one, while a context is open
_noting: list["Signals"] = []  # the training that notes signals: one, while it runs
_catching: list[int] = []  # not empty while signals become errors of the main thread
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


class Interrupted(BaseException):
    """A signal came during what `Signals.interrupting` may end at any place."""


class Signals:
    """The first signal that came, 0 before; `over` once the training that notes it has ended."""

    def __init__(self) -> None:
        self.number = 0
        self.over = threading.Event()
        self._interrupts = False

    def note(self, number: int, _: object) -> None:
        self.number = self.number or number
        if self._interrupts:
            self._interrupts = False
            raise Interrupted

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise Interrupted inside, as soon as a signal comes or if one has come: for work to be repeated."""
        self._interrupts = True
        try:
            if self.number:
                raise Interrupted
            yield
        finally:
            self._interrupts = False


@contextmanager
def noting_signals() -> Iterator[Signals]:
    """Note SIGTERM and SIGUSR1 instead of ending.

    Nothing else is done when one comes: the caller looks at a time at which its state is whole. Outside the main
    thread, which alone may handle signals, nothing changes.
    """
    noted = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    _noting.append(noted)
    before = {number: signal.signal(number, noted.note) for number in PREEMPTING}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _noting.remove(noted)
        noted.over.set()


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Raise Ended inside where one of the signals comes, while no training notes them: nothing would be saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        raise Ended(number)

    before = {number: signal.signal(number, end) for number in PREEMPTING}
    _catching.append(1)
    try:
        yield
    finally:
        _catching.pop()
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


def _stops_by_itself() -> bool:
    """Wait for a training that notes signals, if there is one; return whether it has ended."""
    if not _noting:
        return False
    noted = _noting[-1]
    return noted.over.wait(STEP_SECONDS) or (noted.number > 0 and noted.over.wait(SAVE_SECONDS))


@contextmanager
def ending_on_sigterm(line: str, reports_first: Callable[[], bool]) -> Iterator[Callable[[], None]]:
    """On SIGTERM print `line` on stderr, if `reports_first()`, and exit with 143, whatever the process does.

    A training that is `noting_signals` first has the time to stop by itself.

    Yields a function to call when the process is about to end with a message of its own: SIGTERM then waits some
    seconds for it. Outside the main thread, which alone may handle signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    ending, over = threading.Event(), threading.Event()
    receiving, sending = socket.socketpair()  # Windows cannot write signals to a pipe
    sending.setblocking(False)

    def watch() -> None:
        """Wait on a thread: the main one may be in a call that waits for the rank that has died."""
        while number := receiving.recv(1):
            if number[0] == signal.SIGTERM and not _stops_by_itself():
                if ending.is_set() and over.wait(PATIENCE_SECONDS):
                    break
                if not ending.is_set() and reports_first():
                    os.write(2, f"Error: {line}\n".encode())
                os._exit(TERMINATED)
        receiving.close()

    threading.Thread(target=watch, name="skelpipe-sigterm", daemon=True).start()
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # it is the number in the socket that counts
    wakeup_before = signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
    _reporting.add(sending.fileno())
    try:
        yield ending.set
    finally:
        signal.set_wakeup_fd(wakeup_before)
        signal.signal(signal.SIGTERM, before)
        _reporting.discard(sending.fileno())
        over.set()
        sending.close()


def _hold() -> None:
    """Block the signals in a forked process until `_forget`: they would end, or stop, its parent instead."""
    if _reporting or _noting or _catching:
        _before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, PREEMPTING)


def _release() -> None:
    mask, _before.mask = getattr(_before, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forget() -> None:
    """Let the signals end a forked process as usual, and not its parent."""
    if _reporting:
        signal.set_wakeup_fd(-1)
    if _reporting or _noting or _catching:
        for number in PREEMPTING:
            signal.signal(number, signal.SIG_DFL)
    _release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forget)
