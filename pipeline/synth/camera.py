"""Three cameras in a room: where they stand for a setup, and what is where in their own frames."""

from dataclasses import dataclass

import numpy as np

from skelpipe.synth.body import Motion, turn_about
from skelpipe.synth.seeds import Draw, generator

__all__ = ["View", "camera_view", "seen_from"]

ANGLES = {1: 0.0, 2: -np.pi / 4, 3: np.pi / 4}  # camera 1 is the middle one, 2 and 3 stand to its sides
DISTANCE, DISTANCE_SPREAD = 3.4, 0.5  # metres to where people stand
HEIGHT, HEIGHT_SPREAD = 1.2, 0.45
AIM = 0.9  # metres above the floor
TILT_SPREAD = 0.08  # radians, of pitch and roll, beyond what aims the camera
STEEPEST = 0.5  # radians: nobody leaves the picture
HAND_HELD_SPREAD = 0.03  # radians: a tripod is knocked between recordings


@dataclass(frozen=True)
class View:
    """A camera's frame: x_camera = rotation @ x_room + shift; [3,3] and [3], metres."""

    rotation: np.ndarray
    shift: np.ndarray


def camera_view(seed: int, setup: int, camera: int, difficulty: float, rng: np.random.Generator) -> View:
    """Filesystem camera 1, 2 or 3 of a setup: height, distance and tilt of the setup, knocks of the recording.

    At difficulty 0 the cameras look level from the usual place, 45 degrees apart.
    """
    room = generator(seed, Draw.SETUP, setup, 0).standard_normal(2)
    own = generator(seed, Draw.SETUP, setup, camera).standard_normal(4)
    height = max(HEIGHT + difficulty * HEIGHT_SPREAD * (room[0] + 0.2 * own[0]), 0.4)
    distance = max(DISTANCE + difficulty * DISTANCE_SPREAD * (room[1] + 0.2 * own[1]), 2.4)
    knock = difficulty * (TILT_SPREAD * own[2:] + HAND_HELD_SPREAD * rng.standard_normal(2))
    knock = np.clip(knock, -STEEPEST, STEEPEST)
    aiming = min(difficulty, 1.0) * np.arctan2(AIM - height, distance)
    tilt = turn_about(2, knock[1]) @ turn_about(0, aiming + knock[0])
    shift = tilt @ np.array([0.0, -height, distance])
    return View(tilt @ turn_about(1, ANGLES[camera]), shift)


def seen_from(view: View, body: Motion) -> Motion:
    """Carry a body from the room into a camera's frame."""
    return Motion(body.positions @ view.rotation.T + view.shift, view.rotation @ body.rotations)
