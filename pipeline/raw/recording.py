"""The recording that every reader of raw files returns."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Recording"]


@dataclass(frozen=True)
class Recording:
    """The bodies of one recording, frame by frame, in the order in which the file lists them.

    `counts` int32 [F]: number of bodies in each frame. `ids` int64 [B], B = sum(counts): the tracker's body ids,
    exact (they exceed 2^53, so they never pass through floating point). `xyz` float64 [B,V,3]: joint positions
    in metres, x to the right, y up, z away from the camera; NaN where a joint was not found. `scores` float64
    [B,V] is how sure the pose estimator was of each joint; None where the file says nothing of it.
    """

    counts: np.ndarray
    ids: np.ndarray
    xyz: np.ndarray
    scores: np.ndarray | None = None

    @property
    def frames(self) -> int:
        return len(self.counts)

    @property
    def bodies(self) -> int:
        """The largest number of bodies that any frame lists."""
        return int(self.counts.max(initial=0))

    def cut(self, first: int, last: int) -> "Recording":
        """Return the frames `first` to `last - 1` (counted from 0); arrays are views."""
        before, inside = int(self.counts[:first].sum()), int(self.counts[first:last].sum())
        bodies = slice(before, before + inside)
        scores = None if self.scores is None else self.scores[bodies]
        return Recording(self.counts[first:last], self.ids[bodies], self.xyz[bodies], scores)
