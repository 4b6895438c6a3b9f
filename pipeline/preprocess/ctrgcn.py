"""Profile `ctrgcn`: denoised bodies, one origin for the whole clip (docs/profiles.md).

The preprocessing of CTR-GCN and later work, with two differences. Bodies keep their true frames; in the released
script a body that disappears and returns moves to earlier frames. And the clip is the whole recording, not a part
of it drawn at random.
"""

import numpy as np

from skelpipe.errors import RawError
from skelpipe.kernels import njit
from skelpipe.preprocess.actors import two_actors
from skelpipe.preprocess.scores import SCORE, resize_scores
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
) -> int:
    """Write the clip of profile `ctrgcn` into `out`, float32 [3,frames,V,bodies], or [4,...] with scores.

    The two actors are chosen among the bodies listed. The origin is the spine of actor 1 in the first frame that
    shows actor 1. The clip is resized to `frames` by linear interpolation, without rotation or scaling. Where an
    actor is absent the clip is zero; a clip without an actor 2 has zeros in slot 2, or a copy of slot 1 if
    `second_body` is "copy"; slots beyond the second are zero. Returns how many bodies are neither actor. Raises
    RawError, without the recording's name, if no body is left.
    """
    actors = two_actors(recording)
    seen = np.flatnonzero(actors[:, 0] >= 0)
    if not len(seen):
        raise RawError("all joints of the only body, or of the first actor, lie at the origin in every frame")
    origin = recording.xyz[actors[seen[0], 0], origin_joint(layout)]
    if second_body == "copy" and (actors[:, 1] < 0).all():
        actors[:, 1] = actors[:, 0]
    slots = min(bodies, 2)
    _resize(recording.xyz, actors, origin, slots, out)
    if len(out) > SCORE:
        resize_scores(recording, actors[:, :slots], out[SCORE])
    if recording.bodies == 1 and (recording.ids == recording.ids[0]).all():
        return 0
    rows = actors[:, :slots]
    return len(np.unique(recording.ids)) - len(np.unique(recording.ids[rows[rows >= 0]]))


def origin_joint(layout: Layout) -> int:
    """Return the joint of the origin: the layout's spine middle, else its spine, else its centre."""
    for name in ("spine middle", "spine"):
        if name in layout.joints:
            return layout.joints.index(name)
    return layout.centre


@njit(cache=True, nogil=True)
def _resize(xyz: np.ndarray, actors: np.ndarray, origin: np.ndarray, bodies: int, out: np.ndarray) -> None:
    """Origin and time (steps 3 and 5), with + - * / only: bit-identical on every machine that follows IEEE 754."""
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
