"""What all ranks agree to do between two steps: to stop after a signal, or to save when it is time."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from skelpipe.train.running.ranks import Ranks
from skelpipe.train.running.sigterm import PREEMPTING

__all__ = ["LOOK_SECONDS", "Request", "Requests"]

LOOK_SECONDS = 0.5  # between two looks of several ranks, about: how late a signal may be noticed
MOST_STEPS = 1000  # between two looks


@dataclass(frozen=True)
class Request:
    """`signal` is the number of a signal that came to any rank, 0 for none; `save`: a checkpoint is due."""

    signal: int = 0
    save: bool = False


class Requests:
    """Looks for signals and at the clock. All ranks ask at the same steps and get the same answer.

    A single process looks at every step. Several ranks exchange one message of a few numbers on the CPU, and rank
    0, whose clock counts, says in it after how many steps the next one follows: as many as take half a second.
    Between these, asking costs nothing.
    """

    def __init__(self, team: Ranks, signal: Callable[[], int], seconds: float = 0.0) -> None:
        """`signal` returns the first signal that came to this process, or 0; save every `seconds`, 0 for never."""
        self._team, self._signal, self._seconds = team, signal, seconds
        self._saved = self._looked = time.monotonic()
        self._steps, self._next = 0, 1
        self._told = 0  # the signal that all ranks know of

    def ask(self, *, always: bool = False) -> Request:
        """Return what is asked for after a step; `always`, between epochs, does not wait for the next look."""
        now = time.monotonic()
        due = self._seconds > 0 and now - self._saved >= self._seconds
        if self._team.world == 1:
            return Request(self._signal(), due)
        self._steps += 1
        if self._told or (self._steps < self._next and not always):
            return Request(self._told)
        told = [self._signal() == each for each in PREEMPTING]
        own = [*told, self._team.is_main and due, self._team.is_main and self._until_next(now)]
        *came, saves, following = self._team.sum(torch.tensor(own, dtype=torch.float64)).tolist()
        self._steps, self._next, self._looked = 0, int(following), now
        self._told = next((each for each, ranks in zip(PREEMPTING, came, strict=True) if ranks), 0)
        return Request(self._told, saves > 0)

    def saved(self) -> None:
        """A checkpoint was written: the time to the next begins."""
        self._saved = time.monotonic()

    def _until_next(self, now: float) -> int:
        seconds = (now - self._looked) / self._steps
        return max(1, min(MOST_STEPS, int(LOOK_SECONDS / max(seconds, 1e-9))))
