"""Rows copied from many memory maps in one call without Python's global lock, so that training goes on."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numba.typed import List

from skelpipe.dataset.byte_kernels import copy_bytes, prefetch_pages
from skelpipe.front.arguments import require_rows
from skelpipe.kernels import njit
from skelpipe.mapped_files import confirm, reading

__all__ = ["Pieces"]

START, ADDRESS, STRIDE = range(3)  # of a piece: number of its first row, where that is, bytes from row to row


class Pieces:
    """Arrays [n,D] of one type as one sequence of rows: row r is row r - start of one of the arrays."""

    def __init__(self, pieces: Sequence[np.ndarray], dtype: np.dtype) -> None:
        """The numbers of a row lie side by side, in all arrays."""
        self._dtype, self._arrays = dtype, pieces
        self._starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
        self._count = int(self._starts[-1])
        self._table = np.zeros((3, len(pieces)), np.int64)
        self._table[START] = self._starts[:-1]
        self._width = pieces[0].shape[1] if pieces else 0
        for number, piece in enumerate(pieces):
            gaps = piece.shape[1] > 1 and piece.strides[1] != dtype.itemsize
            if piece.dtype != dtype or piece.shape[1] != self._width or gaps:
                raise ValueError(f"piece {number} does not have rows of {self._width} {dtype} without gaps")
            self._table[ADDRESS:, number] = piece.__array_interface__["data"][0], piece.strides[0]

    @classmethod
    def joined(cls, several: "Sequence[Pieces]") -> "Pieces":
        """Return the rows of several sequences of one type, one after the other."""
        return cls([piece for each in several for piece in each._arrays], several[0]._dtype)

    def __len__(self) -> int:
        return self._count

    def copy(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows, int64 [n], to `out` [n,D], C-contiguous and of the same type.

        Raises IndexError for a row that is not there.
        """
        if len(rows):
            if out.shape != (len(rows), self._width) or out.dtype != self._dtype or not out.flags.c_contiguous:
                raise ValueError(f"{len(rows)} rows do not fit {out.dtype} {out.shape}")  # bytes are copied
            table, count, octets = self._table, self._count, out.view(np.uint8)
            if reading(lambda: _copy(table, count, rows, octets)) < len(rows):
                require_rows(rows, count)

    def confirm(self) -> None:
        """Raise DatasetError if a mapped file was overwritten or removed since it was opened."""
        confirm(self._arrays)

    def mapped(self, rows: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray] | None:
        """Return, for rows int64 [n], flat arrays and, per row, its array's number and its first index.

        None unless the arrays are float32. Raises IndexError for a row that is not there.
        """
        require_rows(rows, self._count)
        if self._whole is None:
            return None
        piece = np.searchsorted(self._starts, rows, side="right") - 1
        return self._whole, piece, (rows - self._starts[piece]) * self._steps[piece]

    @cached_property
    def _whole(self) -> Any:
        return _without_gaps(self._arrays) if self._arrays else None

    @cached_property
    def _steps(self) -> np.ndarray:
        return np.array([piece.strides[0] // 4 for piece in self._arrays], np.int64)


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
def _copy(table: np.ndarray, count: int, rows: np.ndarray, out: np.ndarray) -> int:
    """Copy rows to `out`, uint8; return how many, fewer than asked for where the next one is not there.

    The pages of a row are asked for while the row before it is copied.
    """
    size = out.shape[1]
    target, source = out.ctypes.data, 0
    for n in range(len(rows) + 1):
        following = 0
        if n < len(rows):
            row = rows[n]
            if not 0 <= row < count:
                return n
            piece = np.searchsorted(table[START], row, side="right") - 1
            following = table[ADDRESS, piece] + (row - table[START, piece]) * table[STRIDE, piece]
            prefetch_pages(following, size)
        if n:
            copy_bytes(target + (n - 1) * size, source, size)
        source = following
    return len(rows)
