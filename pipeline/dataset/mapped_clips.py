"""Memory-mapped clips, which the first pass of an augmentation reads in place: this saves one copy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skelpipe.dataset.byte_kernels import prefetch_pages
from skelpipe.kernels import njit
from skelpipe.mapped_files import reading

__all__ = ["MappedClips", "addresses_of"]

PAGE = 1024  # numbers of four bytes


@dataclass(frozen=True, eq=False)
class MappedClips:
    """Clips of `shape` [N,C,T,V,M], float32, in memory maps.

    Clip n begins at index start[n] of pieces[piece[n]]; `pieces` is a numba list of flat float32 arrays.
    """

    pieces: Any
    piece: np.ndarray
    start: np.ndarray
    shape: torch.Size

    def __getitem__(self, rows: slice) -> "MappedClips":
        """Return some of the clips."""
        piece, start = self.piece[rows], self.start[rows]
        return MappedClips(self.pieces, piece, start, torch.Size((len(piece), *self.shape[1:])))

    def read(self) -> Tensor:
        """Return a copy, float32 [N,C,T,V,M]."""
        clips = torch.empty(self.shape)
        rows = clips.view(self.shape[0], -1).numpy()
        reading(lambda: _copy(self.pieces, self.piece, self.start, rows))
        return clips

    def fetch(self) -> None:
        """Read all pages into memory, so that whoever uses the clips later does not wait for the disk."""
        reading(lambda: _touch(self.pieces, self.piece, self.start, self.shape[1:].numel()))


def addresses_of(x: Tensor | MappedClips) -> np.ndarray:
    """Return where each of contiguous or mapped clips begins in memory, int64[N], as long as these are kept."""
    if isinstance(x, MappedClips):
        return _addresses(x.pieces, x.piece, x.start)
    return x.data_ptr() + x.stride(0) * x.element_size() * np.arange(len(x))


@njit(cache=True, forceinline=True)
def _prefetch(pieces: Any, piece: np.ndarray, start: np.ndarray, n: int, size: int) -> None:
    """Ask for clip n, of `size` numbers, if there is one: for whoever is about to work on the clip before it."""
    if n < len(piece):
        prefetch_pages(pieces[piece[n]].ctypes.data + 4 * start[n], 4 * size)


@njit(cache=True, nogil=True)
def _addresses(pieces: Any, piece: np.ndarray, start: np.ndarray) -> np.ndarray:
    found = np.empty(len(piece), np.int64)
    for n in range(len(piece)):
        found[n] = pieces[piece[n]].ctypes.data + 4 * start[n]
    return found


@njit(cache=True, nogil=True)
def _copy(pieces: Any, piece: np.ndarray, start: np.ndarray, out: np.ndarray) -> None:
    for n in range(len(out)):
        _prefetch(pieces, piece, start, n + 1, out.shape[1])
        out[n] = pieces[piece[n]][start[n] : start[n] + out.shape[1]]


@njit(cache=True, nogil=True)
def _touch(pieces: Any, piece: np.ndarray, start: np.ndarray, size: int) -> float:
    seen = 0.0  # returned, so that the compiler does not remove the loop
    for n in range(len(piece)):
        clip = pieces[piece[n]][start[n] : start[n] + size]
        for i in range(0, size, PAGE):
            seen += clip[i]
        seen += clip[size - 1]
    return seen
