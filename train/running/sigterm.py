"""How a rank ends on SIGTERM, which torchrun sends to the other ranks when one has died."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["ending_on_sigterm"]

TERMINATED = 128 + signal.SIGTERM
PATIENCE_SECONDS = 5.0  # for the process to print a message of its own

_pipes: set[int] = set()  # that report signals: one, while a context is open
_before = threading.local()  # the signals that this thread had blocked before it forked


@contextmanager
def ending_on_sigterm(line: str, reports_first: Callable[[], bool]) -> Iterator[Callable[[], None]]:
    """On SIGTERM print `line` on stderr, if `reports_first()`, and exit with 143, whatever the process does.

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
            if number[0] == signal.SIGTERM:
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
    """Block SIGTERM in a forked process until `_forget`: it would end its parent instead."""
    if _pipes:
        _before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _release() -> None:
    mask, _before.mask = getattr(_before, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forget() -> None:
    """Let SIGTERM end a forked process as usual, and not its parent."""
    if _pipes:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _release()


os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forget)
