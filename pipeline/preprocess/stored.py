"""Profile `stored`: clips as a file has them, for arrays that another program has preprocessed."""

import numpy as np

from skelpipe.preprocess.scores import SCORE, scores_of
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import Layout

__all__ = ["STORED", "STORED_VERSION", "resized", "stored"]

STORED = "stored"
STORED_VERSION = 1


def stored(recording: Recording, _layout: Layout, frames: int, bodies: int, out: np.ndarray) -> int:
    """Write the clip of profile `stored` into `out`, float32 [3,frames,V,bodies], or [4,...] with scores.

    The n-th body that a frame lists fills slot n; nothing is moved, turned or scaled. A recording of `frames`
    frames is copied unchanged; any other length is resized by linear interpolation. Returns how many bodies that
    a frame lists have no slot.
    """
    length = recording.frames
    joints = recording.xyz
    if len(out) > SCORE:
        joints = np.concatenate([joints, scores_of(recording)[..., None]], axis=2)
    slots = np.zeros((length, bodies, *joints.shape[1:]))
    frame = np.repeat(np.arange(length), recording.counts)
    slot = np.arange(len(frame)) - np.repeat(np.cumsum(recording.counts) - recording.counts, recording.counts)
    used = slot < bodies
    slots[frame[used], slot[used]] = joints[used]
    if length != frames:
        slots = resized(slots, frames)
    out[:] = slots.transpose(3, 0, 2, 1)
    return max(recording.bodies - bodies, 0)


def resized(clip: np.ndarray, frames: int) -> np.ndarray:
    """Return an array [T,...] with so many frames, float64, linear in time.

    Frame i is at (i + 1/2) T / frames - 1/2, as of `torch.nn.functional.interpolate` and in released code.
    """
    length = len(clip)
    s = np.clip((np.arange(frames) + 0.5) * length / frames - 0.5, 0, length - 1)
    first = s.astype(np.int64)
    weight = (s - first).reshape(-1, *[1] * (clip.ndim - 1))
    return clip[first] * (1 - weight) + clip[np.minimum(first + 1, length - 1)] * weight
