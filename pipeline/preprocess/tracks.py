"""The bodies of a recording followed through its frames by their ids."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skelpipe.kernels import njit
from skelpipe.raw.recording import Recording

__all__ = ["Tracks", "shown_rows", "tracks"]


@dataclass(frozen=True)
class Tracks:
    """Which row of `Recording.xyz` belongs to whom: `frame` and `track` of each row, int64 [B].

    Tracks are numbered from 0 in the order in which the file lists them first. A frame that lists an id twice
    shows two tracks.
    """

    frame: np.ndarray
    track: np.ndarray

    @cached_property
    def order(self) -> np.ndarray:
        """All rows, track by track, frames rising: rows `order[edges[k]:edges[k + 1]]` are those of track k."""
        return np.argsort(self.track, kind="stable")

    @cached_property
    def edges(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(np.bincount(self.track))])

    def __len__(self) -> int:
        return len(self.edges) - 1


def tracks(recording: Recording) -> Tracks:
    """Follow the bodies of a recording by their ids."""
    frame = np.repeat(np.arange(recording.frames), recording.counts)
    by_id = np.lexsort((recording.ids, frame))
    ids = recording.ids[by_id]
    again = np.zeros(len(ids), bool)
    again[1:] = (ids[1:] == ids[:-1]) & (frame[by_id][1:] == frame[by_id][:-1])
    position = np.arange(len(ids))
    copy = np.empty(len(ids), np.int64)  # how often the frame has listed the id before
    copy[by_id] = position - np.maximum.accumulate(np.where(again, 0, position))
    keys = np.stack([recording.ids, copy], axis=1)
    _, first, track = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return Tracks(frame, rank[track.reshape(-1)])


def shown_rows(xyz: np.ndarray) -> np.ndarray:
    """Return bool [B]: whether any joint of a row lies away from the origin; NaN is no position."""
    shown: np.ndarray = _shown_rows(xyz)
    return shown


@njit(cache=True, nogil=True)
def _shown_rows(xyz: np.ndarray) -> np.ndarray:
    shown = np.zeros(len(xyz), np.bool_)
    for row in range(len(xyz)):
        for v in range(xyz.shape[1]):
            x, y, z = xyz[row, v, 0], xyz[row, v, 1], xyz[row, v, 2]
            if (x != 0 or y != 0 or z != 0) and not np.isnan(x + y + z):
                shown[row] = True
                break
    return shown
