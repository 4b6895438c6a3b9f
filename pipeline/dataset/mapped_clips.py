"""Clips that stay where they are stored until an augmentation's first pass reads them: one copy fewer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

__all__ = ["MappedClips"]

PAGE = 1024  # numbers of four bytes


@dataclass(frozen=True, eq=False)
class MappedClips:
    """Clips of `shape` [N,C,T,V,M], float32, in memory maps.

    Clip n begins at number start[n] of pieces[piece[n]]; `pieces` are a list of numba, float32[...] each.
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
        """Return a copy."""
        clips = torch.empty(self.shape)
        _copy(self.pieces, self.piece, self.start, clips.view(self.shape[0], -1).numpy())
        return clips

    def fetch(self) -> None:
        """Have all of it in memory on return: who reads it then does not wait for a disk."""
        _touch(self.pieces, self.piece, self.start, self.shape[1:].numel())


@njit(cache=True, nogil=True)
def _copy(pieces: Any, piece: np.ndarray, start: np.ndarray, out: np.ndarray) -> None:
    for n in range(len(out)):
        out[n] = pieces[piece[n]][start[n] : start[n] + out.shape[1]]


@njit(cache=True, nogil=True)
def _touch(pieces: Any, piece: np.ndarray, start: np.ndarray, size: int) -> float:
    seen = 0.0  # returned, so that the compiler does not leave it all out
    for n in range(len(piece)):
        clip = pieces[piece[n]][start[n] : start[n] + size]
        for i in range(0, size, PAGE):
            seen += clip[i]
        seen += clip[size - 1]
    return seen
