"""Where a stream stands: in memory that it shares with the workers of a `torch.utils.data.DataLoader`."""

from contextlib import suppress
from typing import Any

import numpy as np
import torch

from skelpipe.errors import UsageError

__all__ = ["Position"]

WORKERS = 1022  # that may share a stream
KEY_BITS = 40
KEYS = (1 << KEY_BITS) - 1
GOLDEN = 0x9E3779B97F4A7C15  # odd: spreads what tells iterations apart over 64 bits


class Position:
    """Epoch and step of the next batch, and how many iterations the workers began since it was set.

    The process that made a stream never learns when a DataLoader begins to iterate: with workers, a stream is
    iterated in them alone. So each worker notes here which iteration it begins. The workers of an iteration agree
    on its epoch however early or late each of them comes, and even if some ended before they came to it.

    A worker's note is one word of 64 bits, so that no reader finds half of it: how many iterations began when it
    began its last one, and a key of that iteration. No other process writes it.
    """

    def __init__(self, epoch: int = 0, step: int = 0) -> None:
        self._open(torch.zeros(2 + WORKERS, dtype=torch.int64))
        self.set(epoch, step)

    def _open(self, words: torch.Tensor) -> None:
        if not words.is_shared():
            with suppress(RuntimeError):  # there is no shared memory: only `begin` needs it
                words.share_memory_()
        self._words = words
        self._numbers: np.ndarray = words.numpy()
        self._notes = self._numbers[2:]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._words,)  # the same memory in a process that multiprocessing starts, else a copy

    @property
    def epoch(self) -> int:
        return int(self._numbers[0]) + self._begun()

    @property
    def step(self) -> int:
        return 0 if self._begun() else int(self._numbers[1])

    def set(self, epoch: int, step: int) -> None:
        """Go to a step of an epoch, for workers too."""
        self._numbers[0], self._numbers[1] = epoch, step
        self._notes[:] = 0

    def begin(self, worker: int, iteration: int) -> tuple[int, int]:
        """Return epoch and first step of an iteration that this worker begins; `iteration` is the same for all
        workers of it, and another one in most other iterations.

        Raises UsageError where there is no shared memory, or no room for so many workers.
        """
        if not self._words.is_shared():
            raise UsageError("the workers of a DataLoader need shared memory (/dev/shm), and there is none")
        if worker >= WORKERS:
            raise UsageError(f"a stream is shared by at most {WORKERS} workers")
        key = iteration * GOLDEN >> (64 - KEY_BITS) & KEYS
        notes = self._notes.copy()
        begun, keys = notes >> KEY_BITS, notes & KEYS
        others = begun[(keys == key) & (begun > begun[worker])]  # that are in the same iteration already
        number = int(others.max() if len(others) else begun.max() + 1)
        self._notes[worker] = number << KEY_BITS | key
        epoch, step = self._numbers[:2].tolist()
        return (epoch, step) if number == 1 else (epoch + number - 1, 0)

    def _begun(self) -> int:
        return int(self._notes.max() >> KEY_BITS)


def _reopened(words: torch.Tensor) -> Position:
    position = Position.__new__(Position)
    position._open(words)
    return position
