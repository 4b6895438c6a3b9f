"""Three cameras in a room: their poses in a setup, and bodies in a camera's coordinate frame."""

from dataclasses import dataclass

import numpy as np

from skelpipe.synth.body import Motion, turn_about
from skelpipe.synth.seeds import Draw, generator

__all__ = ["CameraPose", "camera_pose", "seen_from"]

ANGLES = {1: 0.0, 2: -np.pi / 4, 3: np.pi / 4}  # by camera: 1 is in the middle, 2 and 3 on its two sides
DISTANCE, DISTANCE_SPREAD = 3.4, 0.5  # metres to the people
HEIGHT, HEIGHT_SPREAD = 1.2, 0.45
AIM = 0.9  # metres above the floor: the point that a camera looks at
TILT_SPREAD = 0.08  # radians of pitch and roll, added to the aim
STEEPEST = 0.5  # radians of pitch and roll: everybody stays in the picture
HAND_HELD_SPREAD = 0.03  # radians: a tripod is moved a little between recordings


@dataclass(frozen=True)
class CameraPose:
    """A camera's coordinate frame: x_camera = rotation @ x_room + shift; [3,3] and [3], metres."""

    rotation: np.ndarray
    shift: np.ndarray


def camera_pose(seed: int, setup: int, camera: int, difficulty: float, rng: np.random.Generator) -> CameraPose:
    """Draw the pose of camera 1, 2 or 3: height, distance and tilt per setup, small turns per recording (`rng`).

    At difficulty 0 the cameras look horizontally from their mean positions, 45 degrees apart.
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
    return CameraPose(tilt @ turn_about(1, ANGLES[camera]), shift)


def seen_from(pose: CameraPose, body: Motion) -> Motion:
    """Return a body of the room in a camera's coordinate frame."""
    return Motion(body.positions @ pose.rotation.T + pose.shift, pose.rotation @ body.rotations)
