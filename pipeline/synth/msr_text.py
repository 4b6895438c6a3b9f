"""Tracks as the text of MSR Action3D skeleton files: 20 lines a frame, `x y z confidence`."""

from functools import cache

import numpy as np

from skelpipe.skeleton import layout
from skelpipe.synth.body import person_layout
from skelpipe.synth.kinect import TRACKED, Track

__all__ = ["skeleton_text"]

LAYOUT = "kinect-v1-20"
CALLED = {"shoulder centre": "spine shoulder", "spine": "spine middle", "hip centre": "spine base"}  # by Kinect v2
ROW = b"%.6f %.6f %.6f %.6f\n"


def skeleton_text(track: Track, rng: np.random.Generator) -> bytes:
    """Write a track as a file's text; `rng` draws only how sure the sensor is of the joints that it inferred.

    Frames in which the sensor sees nobody are zeros.
    """
    chosen = _joints()
    guess = np.maximum(rng.uniform(-1, 1, (len(track.present), len(chosen))), 0)
    confidence = np.where(track.state[:, chosen] == TRACKED, 1.0, guess)
    values = np.concatenate([track.xyz[:, chosen], confidence[..., None]], axis=-1)  # [T,20,4]
    values[~track.present] = 0
    return b"".join(ROW % tuple(row) for row in values.reshape(-1, 4).tolist())


@cache
def _joints() -> list[int]:
    """The joints of the simulated body that the older sensor reports, in its order."""
    return [person_layout().joints.index(CALLED.get(joint, joint)) for joint in layout(LAYOUT).joints]
