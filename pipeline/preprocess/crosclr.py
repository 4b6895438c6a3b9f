"""Profile `crosclr`: the preprocessing of the released code of the self-supervised papers.

They are CrosSCLR, AimCLR, ActCLR, SkeleMixCLR and SkeAttnCLR. docs/profiles.md describes the steps.
"""

import numpy as np

from skelpipe.kernels import njit
from skelpipe.preprocess.scores import SCORE, resize_scores
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import Layout

__all__ = ["CROSCLR", "CROSCLR_VERSION", "crosclr"]

CROSCLR = "crosclr"
CROSCLR_VERSION = 1


def crosclr(
    recording: Recording, layout: Layout, frames: int, bodies: int, out: np.ndarray, whole: bool = False
) -> int:
    """Write the clip of profile `crosclr` into `out`, float32 [3,frames,V,bodies], or [4,...] with scores.

    Every body is centred on its own centre joint. The first L frames are resized to `frames` by linear
    interpolation, where L counts the frames in which joint 0 of the first body is not at the origin; with `whole`
    L counts all frames, for recordings without frames that show no body. Every frame
    is turned about y so that the shoulders lie along +x (divergence `view-alignment-sign`). The n-th body that a
    frame lists fills slot n, whatever its id, as in the released code. L = 0 gives zeros. A recording without
    depth (2D poses: every z is 0) is not turned. Returns how many bodies that a frame lists have no slot.
    """
    length = _crosclr(
        recording.xyz,
        recording.counts,
        bodies,
        layout.centre,
        layout.left_shoulder,
        layout.right_shoulder,
        whole,
        out,
    )
    if len(out) > SCORE:
        first = np.cumsum(recording.counts) - recording.counts
        slots = np.arange(bodies)
        rows = np.where(slots < recording.counts[:, None], first[:, None] + slots, -1)
        resize_scores(recording, rows[:length], out[SCORE])
    return max(recording.bodies - bodies, 0)


@njit(cache=True, nogil=True)
def _crosclr(
    xyz: np.ndarray,
    counts: np.ndarray,
    bodies: int,
    centre: int,
    left: int,
    right: int,
    whole: bool,
    out: np.ndarray,
) -> int:
    """The loops of `crosclr`, with + - * / and sqrt only: bit-identical on every machine that follows IEEE 754.

    cos(th) = c and sin(th) = sqrt(1 - c^2) replace cos and sin of th = acos(c) in [0, pi]. Returns L.
    """
    T, V = out.shape[1], out.shape[2]
    start = np.zeros(len(counts) + 1, np.int64)
    length = 0
    for f in range(len(counts)):
        start[f + 1] = start[f] + counts[f]
        if whole or (counts[f] and np.abs(xyz[start[f], 0]).sum() != 0):
            length += 1
    out[:] = 0
    if length == 0:
        return length
    flat = True
    for row in range(len(xyz)):
        flat = flat and not xyz[row, :, 2].any()
        if not flat:
            break
    clip = np.empty((T, V, 3))
    for m in range(bodies):
        depth = 0.0  # right shoulder minus left shoulder, summed over frames
        for t in range(T):
            s = min(max((t + 0.5) * length / T - 0.5, 0.0), length - 1.0)
            f = min(int(s), length - 1)
            g = min(f + 1, length - 1)
            w = s - f
            here, there = counts[f] > m, counts[g] > m
            for v in range(V):
                for c in range(3):
                    a = xyz[start[f] + m, v, c] - xyz[start[f] + m, centre, c] if here else 0.0
                    b = xyz[start[g] + m, v, c] - xyz[start[g] + m, centre, c] if there else 0.0
                    clip[t, v, c] = a * (1 - w) + b * w
            depth += clip[t, right, 2] - clip[t, left, 2]
        turn = -1.0 if depth >= 0 else 1.0
        for t in range(T):
            dx = clip[t, right, 0] - clip[t, left, 0]
            dz = clip[t, right, 2] - clip[t, left, 2]
            cosine = dx / (np.sqrt(dx * dx + dz * dz) + 1e-4)
            sine = turn * np.sqrt(1 - cosine * cosine)
            if flat:
                cosine, sine = 1.0, 0.0
            for v in range(V):
                x, z = clip[t, v, 0], clip[t, v, 2]
                out[0, t, v, m] = cosine * x - sine * z
                out[1, t, v, m] = clip[t, v, 1]
                out[2, t, v, m] = sine * x + cosine * z
    return length
