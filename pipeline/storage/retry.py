"""Trying again: bounded, with growing waits and jitter, and only what may be better next time."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from skelpipe.errors import SkelpipeError
from skelpipe.storage.deadlines import pause

__all__ = [
    "CONNECT_SECONDS",
    "SILENT_SECONDS",
    "SLOWEST",
    "ExhaustedError",
    "Line",
    "Pace",
    "Patience",
    "TransientError",
]

T = TypeVar("T")

CONNECT_SECONDS = 10.0
SILENT_SECONDS = 30.0  # without a byte: the connection is taken for dead
SLOWEST = 8 << 10  # bytes a second of a connection: one that is slower holds a run and is taken for dead as well
PROGRESS = 8 << 20  # bytes got since the last failure, after which the counting starts anew
LONGEST_ASKED = 60.0


class TransientError(SkelpipeError):
    """A failure that may pass: a connection that broke, a server that asks for patience.

    `after` are the seconds that the server asks to wait, where it does; `unreachable` that nobody answered.
    """

    def __init__(self, message: str, after: float | None = None, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.after, self.unreachable = after, unreachable


class ExhaustedError(SkelpipeError):
    """A failure that did not pass as long as there was patience."""


@dataclass(frozen=True)
class Patience:
    """How often to try, and how long to wait in between: `first` seconds, doubled each time up to `longest`.

    The nine tries of the default wait 51 s at most, which is what a store takes to make room for a burst.
    """

    attempts: int = 9
    first: float = 0.2
    longest: float = 30.0

    def wait(self, failures: int, asked: float | None = None) -> None:
        """Sleep after the `failures`-th failure, half of it by chance so that many ranks do not come at once."""
        span = min(self.longest, self.first * 2 ** (failures - 1))
        seconds = max(span / 2, min(asked or 0.0, LONGEST_ASKED)) + random.uniform(0, span / 2)  # noqa: S311
        pause(seconds)


PATIENCE = Patience()
AT_FIRST = 4  # attempts to reach a server that never answered: its name may be wrong


class Pace:
    """Watches how fast a body comes: `spent(seconds, count)` is told of each read."""

    def __init__(self, what: str) -> None:
        self._what, self._seconds, self._bytes = what, 0.0, 0

    def spent(self, seconds: float, count: int) -> None:
        """Raise TransientError where the reads of SILENT_SECONDS brought less than SLOWEST a second."""
        self._seconds += seconds
        self._bytes += count
        if self._seconds < SILENT_SECONDS:
            return
        if self._bytes < SLOWEST * self._seconds:
            raise TransientError(f"{self._what}: only {self._bytes:,} bytes came in {self._seconds:.0f} s")
        self._seconds, self._bytes = 0.0, 0


class Line:
    """The line to one server: it is tried again in patience, and in haste as long as it never answered."""

    def __init__(self) -> None:
        self._answered = False

    def patiently(self, deed: Callable[[], T]) -> T:
        """Return what `deed` returns, done again after each TransientError; ExhaustedError where patience ends."""
        failures = 0
        while True:
            try:
                result = deed()
            except TransientError as error:
                failures += 1
                self._bear(error, failures)
            else:
                self._answered = True
                return result

    def steadily(self, read_from: Callable[[int], Iterator[bytes]]) -> Iterator[bytes]:
        """Yield the pieces of `read_from(0)`; after a TransientError go on with `read_from(bytes yielded)`.

        What was yielded counts: the failures are counted anew once PROGRESS bytes came through.
        """
        failures = done = mark = 0
        while True:
            try:
                for piece in read_from(done):
                    self._answered = True
                    done += len(piece)
                    yield piece
                return
            except TransientError as error:
                failures = 1 if done - mark >= PROGRESS else failures + 1
                mark = done if failures == 1 else mark
                self._bear(error, failures)

    def _bear(self, error: TransientError, failures: int) -> None:
        self._answered = self._answered or not error.unreachable
        if failures >= (PATIENCE.attempts if self._answered else AT_FIRST):
            raise ExhaustedError(f"{error}; given up after {failures} attempts") from None
        PATIENCE.wait(failures, error.after)
