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

    @classmethod
    def in_slots(cls, xyz: np.ndarray, present: np.ndarray, scores: np.ndarray | None = None) -> "Recording":
        """Return bodies in slots, `xyz` [F,M,V,3], `present` bool [F,M], `scores` [F,M,V], as a recording.

        Bodies keep their slots: an absent body before a present one is listed as zeros, with scores of 0. The ids
        are the slots, from 0.
        """
        xyz = np.where(present[..., None, None], xyz, 0.0)
        behind = np.logical_or.accumulate(present[:, ::-1], axis=1)
        listed = behind[:, ::-1]  # every slot up to the last one in use
        if scores is not None:
            scores = np.where(present[..., None], scores, 0.0)[listed]
        return cls(listed.sum(axis=1, dtype=np.int32), np.nonzero(listed)[1], xyz[listed], scores)

    def cut(self, first: int, last: int) -> "Recording":
        """Return the frames `first` to `last - 1` (counted from 0); arrays are views."""
        before, inside = int(self.counts[:first].sum()), int(self.counts[first:last].sum())
        bodies = slice(before, before + inside)
        scores = None if self.scores is None else self.scores[bodies]
        return Recording(self.counts[first:last], self.ids[bodies], self.xyz[bodies], scores)
