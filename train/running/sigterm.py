"""What SIGTERM does: a training stops at its next step, a rank that waits for a dead one ends.

A scheduler that takes a machine away sends SIGTERM (or SIGUSR1) and waits. torchrun sends SIGTERM to the other
ranks when one has died.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["PREEMPTING", "Stopped", "ending_on_sigterm", "noting_signals"]

TERMINATED = 128 + signal.SIGTERM
PREEMPTING = (signal.SIGTERM, signal.SIGUSR1)  # after which a training stops, with a checkpoint
STEP_SECONDS = 25.0  # for a step to end; torchrun kills 30 s after SIGTERM
SAVE_SECONDS = 600.0  # for a process that has noted the signal
PATIENCE_SECONDS = 5.0  # for the process to print a message of its own

_pipes: set[int] = set()  # that report signals: one, while a context is open
_noting: list["_Noted"] = []  # the training that notes signals: one, while it runs
_before = threading.local()  # the signals that this thread had blocked before it forked


class Stopped(SystemExit):
    """A training has stopped because of a signal, and its checkpoint is written. The exit code is 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class _Noted:
    """The first signal that came, 0 before; `over` once the training that notes it has ended."""

    def __init__(self) -> None:
        self.number = 0
        self.over = threading.Event()

    def note(self, number: int, _: object) -> None:
        self.number = self.number or number


@contextmanager
def noting_signals() -> Iterator[Callable[[], int]]:
    """Note SIGTERM and SIGUSR1 instead of ending; yields a function that returns the first that came, else 0.

    Nothing else is done when one comes: the caller looks at a time at which its state is whole. Outside the main
    thread, which alone may handle signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    noted = _Noted()
    _noting.append(noted)
    before = {number: signal.signal(number, noted.note) for number in PREEMPTING}
    try:
        yield lambda: noted.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _noting.remove(noted)
        noted.over.set()


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
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)

    def watch() -> None:
        """Wait on a thread: the main one may be in a call that waits for the rank that has died."""
        while number := os.read(receiving, 1):
            if number[0] == signal.SIGTERM and not _stops_by_itself():
                if ending.is_set() and over.wait(PATIENCE_SECONDS):
                    break
                if not ending.is_set() and reports_first():
                    os.write(2, f"Error: {line}\n".encode())
                os._exit(TERMINATED)
        os.close(receiving)

    threading.Thread(target=watch, name="skelpipe-sigterm", daemon=True).start()
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # it is the number in the pipe that counts
    pipe_before = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    _pipes.add(sending)
    try:
        yield ending.set
    finally:
        signal.set_wakeup_fd(pipe_before)
        signal.signal(signal.SIGTERM, before)
        _pipes.discard(sending)
        over.set()
        os.close(sending)


def _hold() -> None:
    """Block the signals in a forked process until `_forget`: they would end, or stop, its parent instead."""
    if _pipes or _noting:
        _before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, PREEMPTING)


def _release() -> None:
    mask, _before.mask = getattr(_before, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forget() -> None:
    """Let the signals end a forked process as usual, and not its parent."""
    if _pipes:
        signal.set_wakeup_fd(-1)
    if _pipes or _noting:
        for number in PREEMPTING:
            signal.signal(number, signal.SIG_DFL)
    _release()


os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forget)
