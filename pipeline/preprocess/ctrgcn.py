"""Profile `ctrgcn`: denoised bodies, one origin for the whole clip (spec ctrgcn).

What CTR-GCN and its descendants do to recordings, but that bodies keep their true frames, where the released
script lets one that returns slide earlier, and that the clip is the whole recording, not a part drawn anew.
"""

import numpy as np
from numba import njit

from skelpipe.errors import RawError
from skelpipe.preprocess.actors import two_actors
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import Layout

__all__ = ["CTRGCN", "CTRGCN_VERSION", "SECOND_BODIES", "ctrgcn", "origin_joint"]

CTRGCN = "ctrgcn"
CTRGCN_VERSION = 1
SECOND_BODIES = ("zeros", "copy")


def ctrgcn(
    recording: Recording,
    layout: Layout,
    frames: int,
    bodies: int,
    out: np.ndarray,
    second_body: str = "zeros",
) -> None:
    """Write the clip of profile `ctrgcn` into `out`, float32 [3,frames,V,bodies] (spec ctrgcn).

    The two actors are found among the bodies listed, the origin is actor 1's spine in the first frame that shows
    them, and the clip is resized to `frames` by linear interpolation. No rotation, no scaling. Where an actor is
    absent the clip is zero, and so is slot 2 of a clip in which nobody ever is actor 2, unless `second_body` is
    "copy"; slots beyond the second are zero. Raises RawError, without the recording's name, where nobody is left.
    """
    actors = two_actors(recording)
    seen = np.flatnonzero(actors[:, 0] >= 0)
    if not len(seen):
        raise RawError("all joints of the only body, or of the first actor, lie at the origin in every frame")
    origin = recording.xyz[actors[seen[0], 0], origin_joint(layout)]
    if second_body == "copy" and (actors[:, 1] < 0).all():
        actors[:, 1] = actors[:, 0]
    _resize(recording.xyz, actors, origin, min(bodies, 2), out)


def origin_joint(layout: Layout) -> int:
    """Return the joint that becomes the origin: the spine's middle, else what is called spine, else the centre."""
    for name in ("spine middle", "spine"):
        if name in layout.joints:
            return layout.joints.index(name)
    return layout.centre


@njit(cache=True, nogil=True)
def _resize(xyz: np.ndarray, actors: np.ndarray, origin: np.ndarray, bodies: int, out: np.ndarray) -> None:
    """Steps 4 and 6. Only + - * /, which IEEE 754 defines to the bit on every machine."""
    length, T = len(actors), out.shape[1]
    out[:] = 0
    for t in range(T):
        s = min(max((t + 0.5) * length / T - 0.5, 0.0), length - 1.0)
        f = min(int(s), length - 1)
        g = min(f + 1, length - 1)
        w = s - f
        for m in range(bodies):
            here, there = actors[f, m], actors[g, m]
            if here < 0 and there < 0:
                continue
            for v in range(out.shape[2]):
                for c in range(3):
                    a = xyz[here, v, c] - origin[c] if here >= 0 else 0.0
                    b = xyz[there, v, c] - origin[c] if there >= 0 else 0.0
                    out[c, t, v, m] = a * (1 - w) + b * w
