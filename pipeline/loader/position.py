"""Where a stream stands: in memory that it shares with the workers of a `torch.utils.data.DataLoader`."""

from contextlib import suppress
from typing import Any

import numpy as np
import torch

from skelpipe.errors import UsageError

__all__ = ["Position"]

WORKERS = 512  # that may share a stream
KEY_BITS = 40
KEYS = (1 << KEY_BITS) - 1
GOLDEN = 0x9E3779B97F4A7C15  # odd: spreads what tells iterations apart over 64 bits


class Position:
    """Epoch and step of the next batch, and how many iterations the workers began since it was set.

    The process that made a stream never learns when a DataLoader begins to iterate: with workers, a stream is
    iterated in them alone. So each worker notes here which iteration it begins. The workers of an iteration agree
    on its epoch however early or late each of them comes, and even if some ended before they came to it.

    A worker's note is one word of 64 bits, so that no reader finds half of it: the number of the iteration that it
    began last, counted from 1, and a key of it. Nobody else writes it. Beside it stands the number of the first
    iteration of that key: persistent workers have one key for all.
    """

    def __init__(self, epoch: int = 0, step: int = 0) -> None:
        self._open(torch.zeros(3 + 2 * WORKERS, dtype=torch.int64), 0)
        self.set(epoch, step)

    def _open(self, words: torch.Tensor, times_set: int) -> None:
        if not words.is_shared():
            with suppress(RuntimeError):  # there is no shared memory: only `begin` needs it
                words.share_memory_()
        self._words, self._times_set = words, times_set
        numbers: np.ndarray = words.numpy()
        self._place, self._notes, self._firsts = numbers[:3], numbers[3 : 3 + WORKERS], numbers[3 + WORKERS :]
        self._words_of_place = self._place.data  # set with each batch: quicker than an array
        self._came = False  # whether this process began an iteration
        self._last: tuple[int, int, int] | None = None  # times set, key and number of the one it began last

    def __reduce__(self) -> tuple[Any, ...]:
        # The same memory in a process that multiprocessing starts, else a copy.
        return _reopened, (self._words, self._times_set)

    @property
    def epoch(self) -> int:
        return int(self._place[0]) + self._begun()

    @property
    def step(self) -> int:
        return 0 if self._begun() else int(self._place[1])

    def set(self, epoch: int, step: int) -> None:
        """Go to a step of an epoch, for workers too."""
        self._times_set += 1
        place = self._words_of_place
        place[0], place[1], place[2] = epoch, step, self._times_set
        self._notes.fill(0)

    def begin(self, worker: int, iteration: int) -> tuple[int, int]:
        """Return epoch and first step of an iteration that this worker begins; `iteration` is the same for all
        workers of it, and another one in most other iterations.

        Raises UsageError where there is no shared memory, or no room for so many workers.
        """
        epoch, step, number = self._begin(worker, iteration)
        return (epoch, step) if number <= 1 else (epoch + number - 1, 0)

    def begin_in(self, epoch: int, worker: int, iteration: int) -> None:
        """Begin an iteration as `begin` does, but in this epoch: the next one is then in the epoch after it.

        All workers of an iteration name the same epoch, and so all write the same.
        """
        _, _, number = self._begin(worker, iteration)
        if number:
            self._place[0] = epoch - (number - 1)

    def _begin(self, worker: int, iteration: int) -> tuple[int, int, int]:
        """Return the epoch and step that were set, and the number of the iteration since; 0: none that counts."""
        if not self._words.is_shared():
            raise UsageError("the workers of a DataLoader need shared memory (/dev/shm), and there is none")
        if worker >= WORKERS:
            raise UsageError(f"a stream is shared by at most {WORKERS} workers")
        epoch, step, times_set = self._place.tolist()
        came, self._came = self._came, True
        if not came and times_set != self._times_set:
            return epoch, step, 0  # set since this process was started: nobody waits for its iteration any more
        key = iteration * GOLDEN >> (64 - KEY_BITS) & KEYS
        notes = self._notes.copy()
        begun, keys = notes >> KEY_BITS, notes & KEYS
        last = self._last[2] if self._last is not None and self._last[:2] == (times_set, key) else None
        ahead = (keys == key) & (begun > (begun[worker] if last is None else last))  # in this iteration, or later
        if not ahead.any():
            number = int(begun.max()) + 1
        elif last is None:
            number = int(self._firsts[ahead].max())
        else:
            number = int(begun[ahead].min())
        if last is None:
            self._firsts[worker] = number
        self._notes[worker] = number << KEY_BITS | key
        self._last = times_set, key, number
        return epoch, step, number

    def _begun(self) -> int:
        return int(self._notes.max() >> KEY_BITS)


def _reopened(words: torch.Tensor, times_set: int) -> Position:
    position = Position.__new__(Position)
    position._open(words, times_set)
    return position
