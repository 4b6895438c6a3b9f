"""Rows copied out of many memory maps in one call that leaves Python's lock alone: training goes on meanwhile."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numba.typed import List

__all__ = ["Pieces"]

WORDS = {2: np.uint16, 4: np.uint32}  # what numbers of that many bytes are copied as


class Pieces:
    """Arrays [n,D] of one type that follow each other: row r of them all is row r - start of one piece."""

    def __init__(self, pieces: Sequence[np.ndarray], dtype: np.dtype) -> None:
        self._word = WORDS[dtype.itemsize]
        self._starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
        self._arrays = pieces
        self._pieces: Any = List(piece.view(self._word) for piece in pieces) if pieces else None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def copy(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows, int64 [n] within the range, to `out` [n,D] of the pieces' type."""
        if len(rows):
            _copy(self._pieces, *self._found(rows), out.view(self._word))

    def mapped(self, rows: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray] | None:
        """Return where rows, int64 [n] within the range, lie: arrays without gaps, which of them, from where.

        None unless they are float32.
        """
        if self._whole is None:
            return None
        piece, row = self._found(rows)
        return self._whole, piece, row * self._steps[piece]

    @cached_property
    def _whole(self) -> Any:
        return _without_gaps(self._arrays) if self._arrays else None

    @cached_property
    def _steps(self) -> np.ndarray:
        return np.array([piece.strides[0] // 4 for piece in self._arrays], np.int64)

    def _found(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return in which piece each row lies, and which of its rows it is."""
        piece = np.searchsorted(self._starts, rows, side="right") - 1
        return piece, rows - self._starts[piece]


def _without_gaps(pieces: Sequence[np.ndarray]) -> Any:
    """Return the memory from the first number to the last of each piece, as a list of numba; None unless float32.

    A kernel is compiled for rows without gaps only where it knows of them.
    """
    if any(piece.dtype != np.float32 or piece.strides[0] % 4 or piece.strides[1] != 4 for piece in pieces):
        return None
    sizes = [
        max(len(piece) - 1, 0) * (piece.strides[0] // 4) + min(len(piece), 1) * piece.shape[1] for piece in pieces
    ]
    whole = (
        np.lib.stride_tricks.as_strided(piece, (size,), (4,), writeable=False)
        for piece, size in zip(pieces, sizes, strict=True)
    )
    return List(whole)


@njit(cache=True, nogil=True)
def _copy(pieces: Any, piece: np.ndarray, row: np.ndarray, out: np.ndarray) -> None:
    for n in range(len(out)):
        source = pieces[piece[n]][row[n]]
        for i in range(out.shape[1]):
            out[n, i] = source[i]
