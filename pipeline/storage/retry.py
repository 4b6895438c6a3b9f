"""Trying again: a bounded number of times, with growing random waits, and only after failures that may pass."""

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
    "MinimumSpeed",
    "Retries",
    "RetryPolicy",
    "TransientError",
]

T = TypeVar("T")

CONNECT_SECONDS = 10.0
SILENT_SECONDS = 30.0  # without a byte, after which a connection counts as dead
SLOWEST = 8 << 10  # bytes per second; a slower connection would hold up a run and counts as dead as well
PROGRESS = 8 << 20  # bytes received since the last failure, after which failures are counted from 1 again
LONGEST_ASKED = 60.0


class TransientError(SkelpipeError):
    """A failure that may pass: a connection that broke, or a server that is busy.

    `after` is the number of seconds that the server asks to wait, if it does; `unreachable` says that no server
    answered at all.
    """

    def __init__(self, message: str, after: float | None = None, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.after, self.unreachable = after, unreachable


class ExhaustedError(SkelpipeError):
    """A failure that was still there at the last attempt."""


@dataclass(frozen=True)
class RetryPolicy:
    """How many attempts to make, and how long to wait after each: `first` seconds, doubled up to `longest`.

    The nine attempts of the default wait 51 s at most: a store needs about as long to adapt to a sudden load.
    """

    attempts: int = 9
    first: float = 0.2
    longest: float = 30.0

    def wait(self, failures: int, asked: float | None = None) -> None:
        """Sleep after failure number `failures`, half of the time random: many ranks must not return at once."""
        span = min(self.longest, self.first * 2 ** (failures - 1))
        seconds = max(span / 2, min(asked or 0.0, LONGEST_ASKED)) + random.uniform(0, span / 2)  # noqa: S311
        pause(seconds)


POLICY = RetryPolicy()
FIRST_ATTEMPTS = 4  # to reach a server that has never answered: its name may be wrong


class MinimumSpeed:
    """Measures how fast a body arrives: call `add(seconds, count)` after each read."""

    def __init__(self, what: str) -> None:
        self._what, self._seconds, self._bytes = what, 0.0, 0

    def add(self, seconds: float, count: int) -> None:
        """Raise TransientError where reads of SILENT_SECONDS brought less than SLOWEST bytes per second."""
        self._seconds += seconds
        self._bytes += count
        if self._seconds < SILENT_SECONDS:
            return
        if self._bytes < SLOWEST * self._seconds:
            raise TransientError(f"{self._what}: only {self._bytes:,} bytes came in {self._seconds:.0f} s")
        self._seconds, self._bytes = 0.0, 0


class Retries:
    """Repeats failed requests to one server: POLICY.attempts of each, fewer while it has never answered."""

    def __init__(self) -> None:
        self._answered = False

    def call(self, request: Callable[[], T]) -> T:
        """Return what `request` returns, repeated after TransientError; ExhaustedError after the last attempt."""
        failures = 0
        while True:
            try:
                result = request()
            except TransientError as error:
                failures += 1
                self._wait(error, failures)
            else:
                self._answered = True
                return result

    def stream(self, read_from: Callable[[int], Iterator[bytes]]) -> Iterator[bytes]:
        """Yield the pieces of `read_from(0)`; after a TransientError go on with `read_from(bytes yielded)`.

        Failures are counted from 1 again once PROGRESS bytes came since the last one.
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
                self._wait(error, failures)

    def _wait(self, error: TransientError, failures: int) -> None:
        """Wait before the next attempt; ExhaustedError where there is none."""
        self._answered = self._answered or not error.unreachable
        if failures >= (POLICY.attempts if self._answered else FIRST_ATTEMPTS):
            raise ExhaustedError(f"{error}; given up after {failures} attempts") from None
        POLICY.wait(failures, error.after)
