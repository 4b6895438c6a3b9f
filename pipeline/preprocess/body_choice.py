"""Choose the bodies of a clip by their motion, where a recording shows more than the clip holds."""

import numpy as np

from skelpipe.kernels import njit
from skelpipe.preprocess.tracks import shown_rows, tracks
from skelpipe.raw.recording import Recording

__all__ = ["moving_bodies"]


def moving_bodies(recording: Recording, bodies: int) -> tuple[Recording, int]:
    """Return the recording with at most `bodies` bodies per frame in slots, and how many bodies are left out.

    Bodies are followed by their ids. The motion of a body is the sum, over its frames and joints, of the squared
    distance from the joint's mean position. In the order of motion, largest first and equal ones as listed, each
    body gets the first slot that is free in all of its frames; a body for which there is none is left out. The
    slots are those in which the file lists their first bodies.
    """
    if recording.bodies <= 1:
        return recording, 0
    position = np.arange(len(recording.ids)) - np.repeat(
        np.cumsum(recording.counts) - recording.counts, recording.counts
    )
    if recording.bodies <= bodies and np.array_equal(position, recording.ids):
        return recording, 0  # the ids are slots
    found = tracks(recording)
    shown = shown_rows(recording.xyz)
    motion = _motions(recording.xyz, shown, found.order, found.edges)
    taken = np.zeros((bodies, recording.frames), bool)
    slots = np.full(len(found), -1)
    left_out = 0
    for track in np.argsort(-motion, kind="stable"):
        rows = found.order[found.edges[track] : found.edges[track + 1]]
        frames = found.frame[rows[shown[rows]]]
        if not len(frames):
            continue
        free = ~taken[:, frames].any(axis=1)
        if not free.any():
            left_out += 1
            continue
        slots[track] = np.argmax(free)
        taken[slots[track], frames] = True
    slots = _as_listed(slots, bodies)
    slot = slots[found.track]
    kept = shown & (slot >= 0)
    return _in_slots(recording, found.frame[kept], slot[kept], kept, bodies), left_out


def _as_listed(slots: np.ndarray, bodies: int) -> np.ndarray:
    """Number the slots in the order of their first tracks; tracks are in the order of the file."""
    used, first = np.unique(slots[slots >= 0], return_index=True)
    number = np.full(bodies, -1)
    number[used[np.argsort(first)]] = np.arange(len(used))
    return np.where(slots >= 0, number[slots], -1)


def _in_slots(
    recording: Recording, frame: np.ndarray, slot: np.ndarray, kept: np.ndarray, bodies: int
) -> Recording:
    present = np.zeros((recording.frames, bodies), bool)
    present[frame, slot] = True
    xyz = np.zeros((*present.shape, *recording.xyz.shape[1:]))
    xyz[frame, slot] = recording.xyz[kept]
    scores = None
    if recording.scores is not None:
        scores = np.zeros(xyz.shape[:3])
        scores[frame, slot] = recording.scores[kept]
    return Recording.in_slots(xyz, present, scores)


# A loop in a fixed order: the last bits of numpy's reductions differ between versions and instruction sets.
@njit(cache=True, nogil=True)
def _motions(xyz: np.ndarray, shown: np.ndarray, order: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the motion of each track, float64 [K]; NaN is no position."""
    motions = np.zeros(len(edges) - 1)
    for k in range(len(motions)):
        rows = order[edges[k] : edges[k + 1]]
        for v in range(xyz.shape[1]):
            for c in range(3):
                mean, count = 0.0, 0
                for row in rows:
                    if shown[row] and not np.isnan(xyz[row, v, c]):
                        mean += xyz[row, v, c]
                        count += 1
                if not count:
                    continue
                mean /= count
                for row in rows:
                    if shown[row] and not np.isnan(xyz[row, v, c]):
                        motions[k] += (xyz[row, v, c] - mean) * (xyz[row, v, c] - mean)
    return motions
