"""What must not be forked in the middle of a call: the locks of the S3 client would stay locked in the child."""

import os
import threading
from types import TracebackType

__all__ = ["ForkGuard"]


class ForkGuard:
    """While a thread is inside `with` one of these, a fork of this process waits. Do not fork inside."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
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
