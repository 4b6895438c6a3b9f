"""Rows copied from many memory maps in one call without Python's global lock, so that training goes on."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numba.typed import List

from skelpipe.kernels import njit
from skelpipe.mapped_files import confirm, reading

__all__ = ["Pieces"]

WORDS = {2: np.uint16, 4: np.uint32}  # the integer type that copies numbers of so many bytes


class Pieces:
    """Arrays [n,D] of one type as one sequence of rows: row r is row r - start of one of the arrays."""

    def __init__(self, pieces: Sequence[np.ndarray], dtype: np.dtype) -> None:
        self._dtype, self._word = dtype, WORDS[dtype.itemsize]
        self._starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
        self._arrays = pieces
        self._pieces: Any = _listed([piece.view(self._word) for piece in pieces]) if pieces else None

    @classmethod
    def joined(cls, several: "Sequence[Pieces]") -> "Pieces":
        """Return the rows of several sequences of one type, one after the other."""
        return cls([piece for each in several for piece in each._arrays], several[0]._dtype)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def copy(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy valid rows, int64 [n], to `out` [n,D] of the same type."""
        if len(rows):
            found, words = self._found(rows), out.view(self._word)
            reading(lambda: _copy(self._pieces, *found, words))

    def confirm(self) -> None:
        """Raise DatasetError if a mapped file was overwritten or removed since it was opened."""
        confirm(self._arrays)

    def mapped(self, rows: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray] | None:
        """Return, for valid rows int64 [n], flat arrays and, per row, its array's number and its first index.

        None unless the arrays are float32.
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
        """Return for each row the number of its piece, and its row within that piece."""
        piece = np.searchsorted(self._starts, rows, side="right") - 1
        return piece, rows - self._starts[piece]


def _listed(pieces: Sequence[np.ndarray]) -> Any:
    """Return arrays [n,D] as a numba list, whether their rows have gaps or not (an array of one row has none)."""
    aligned = all(piece.flags.aligned for piece in pieces)
    gaps = np.ndarray((2, 1), pieces[0].dtype, bytes(64), 0 if aligned else 1, (16, pieces[0].itemsize))
    return _filled(_empty(gaps), pieces)


def _filled(listed: Any, pieces: Iterable[np.ndarray]) -> Any:
    for piece in pieces:
        _append(listed, piece)
    return listed


# The methods of numba's list are compiled anew by every process, for a second; these are compiled once.
@njit(cache=True)
def _empty(example: np.ndarray) -> Any:
    listed = List()
    listed.append(example)
    listed.pop()
    return listed


@njit(cache=True)
def _append(listed: Any, piece: np.ndarray) -> None:
    listed.append(piece)


def _without_gaps(pieces: Sequence[np.ndarray]) -> Any:
    """Return each piece, with the gaps between its rows, as a flat array (a numba list); None unless float32.

    From a flat array numba compiles faster code than from rows with gaps.
    """
    if any(piece.dtype != np.float32 or piece.strides[0] % 4 or piece.strides[1] != 4 for piece in pieces):
        return None
    sizes = [
        max(len(piece) - 1, 0) * (piece.strides[0] // 4) + min(len(piece), 1) * piece.shape[1] for piece in pieces
    ]
    whole = [
        np.lib.stride_tricks.as_strided(piece, (size,), (4,), writeable=False)
        for piece, size in zip(pieces, sizes, strict=True)
    ]
    return _filled(_empty(whole[0]), whole)


@njit(cache=True, nogil=True)
def _copy(pieces: Any, piece: np.ndarray, row: np.ndarray, out: np.ndarray) -> None:
    for n in range(len(out)):
        source = pieces[piece[n]][row[n]]
        for i in range(out.shape[1]):
            out[n, i] = source[i]
