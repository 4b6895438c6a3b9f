"""What SIGTERM does: a training stops at its next step, a rank that waits for a dead one ends.

A scheduler that takes a machine away sends SIGTERM (or SIGUSR1) and waits. torchrun sends SIGTERM to the other
ranks when one has died. Windows has neither from outside; there a console sends SIGBREAK (Ctrl-Break).
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from skelpipe.door.signals import HANDLED, PREEMPTING, TERMINATED, Stopped

__all__ = [
    "PREEMPTING",
    "Interrupted",
    "Signals",
    "Stopped",
    "ending_on_sigterm",
    "noting_signals",
]

STEP_SECONDS = 25.0  # for a step to end; torchrun kills 30 s after SIGTERM
SAVE_SECONDS = 600.0  # for a process that has noted the signal
PATIENCE_SECONDS = 5.0  # for the process to print a message of its own

_noting: list["Signals"] = []  # the training that notes signals: one, while it runs


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
    HANDLED.append(noted)
    before = {number: signal.signal(number, noted.note) for number in PREEMPTING}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        HANDLED.remove(noted)
        _noting.remove(noted)
        noted.over.set()


def _stops_by_itself() -> bool:
    """Wait for a training that notes signals, if there is one; return whether it has ended."""
    if not _noting:
        return False
    noted = _noting[-1]
    return noted.over.wait(STEP_SECONDS) or (noted.number > 0 and noted.over.wait(SAVE_SECONDS))


@contextmanager
def ending_on_sigterm(line: Callable[[], str | None]) -> Iterator[Callable[[], None]]:
    """On SIGTERM print what `line` returns on stderr, if it is a text, and exit with 143 at once.

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
                if not ending.is_set() and (said := line()) is not None:
                    os.write(2, f"Error: {said}\n".encode())
                os._exit(TERMINATED)
        receiving.close()

    threading.Thread(target=watch, name="skelpipe-sigterm", daemon=True).start()
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # it is the number in the socket that counts
    wakeup_before = signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
    HANDLED.append(sending)
    try:
        yield ending.set
    finally:
        signal.set_wakeup_fd(wakeup_before)
        signal.signal(signal.SIGTERM, before)
        HANDLED.remove(sending)
        over.set()
        sending.close()
