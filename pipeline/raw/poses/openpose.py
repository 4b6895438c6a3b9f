"""Reader of OpenPose's `--write_json`: one JSON file per frame, `NAME_000000000000_keypoints.json`.

Format: doc/02_output.md of CMU-Perceptual-Computing-Lab/openpose. A person's `pose_keypoints_2d` (`pose_keypoints`
in version 0.1) is x, y, score per joint, `pose_keypoints_3d` x, y, z, score; 0, 0, 0 is a joint that was not
found. Coordinates are pixels, or by the flag `--keypoint_scale` fractions of the picture from 0 or -1 to 1.
"""

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.json_text import entry, joint_numbers, listed, parse_json, whole_number
from skelpipe.raw.poses.people import NO_ID, People, are_fractions, gather, in_pixels

__all__ = ["openpose_pixels", "openpose_points", "read_openpose_frame"]

FLAT = ("pose_keypoints_2d", "pose_keypoints")
BESIDE = -0.05  # a joint beside the picture, of fractions from 0 to 1
SOLID = "pose_keypoints_3d"


def read_openpose_frame(text: np.ndarray, name: str, form: Form) -> People:
    """Read one file: the people of a frame. With z among the declared channels the 3D positions are read."""
    people = listed(entry(parse_json(text, name), "people", name), f"{name}: people")
    found, ids = [], []
    key = SOLID if "z" in form.channels else _key(people, name)
    for number, person in enumerate(people, 1):
        where = f"{name}: person {number}"
        found.append(openpose_points(entry(person, key, where), form, where, 3 if key == SOLID else 2))
        ids.append(_id(person.get("person_id", NO_ID), where))
    points, scores = [one[:, :-1] for one in found], [one[:, -1] for one in found]
    return gather(points, scores, ids, form.joints)


def openpose_points(values: object, form: Form, where: str, axes: int) -> np.ndarray:
    """Return float64 [V,axes+1] of flat coordinates and scores; NaN where a joint was not found."""
    points = joint_numbers(values, form.layout.joints, axes + 1, where)
    points[~points.any(axis=1), :axes] = np.nan
    return points


def openpose_pixels(xyz: np.ndarray, name: str, form: Form) -> np.ndarray:
    """Return positions in pixels, also of fractions of the picture.

    Fractions are from -1 to 1 where a joint is clearly below 0, else from 0 to 1.
    """
    if "z" in form.channels or not are_fractions(xyz, name):
        return xyz
    if np.nanmin(xyz[..., :2]) < BESIDE:  # from -1 to 1
        xyz = xyz / 2 + np.array([0.5, 0.5, 0])
    return in_pixels(xyz, name, form)


def _key(people: list[object], name: str) -> str:
    """Return the key of the 2D positions, one for all people of a file."""
    keys = {key for key in FLAT for person in people if isinstance(person, dict) and key in person}
    if len(keys) > 1:
        raise RawError(f"{name}: people in the formats of different versions, with {' and '.join(sorted(keys))}")
    return keys.pop() if keys else FLAT[0]


def _id(value: object, where: str) -> int:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    number = whole_number(value, f"{where}: person_id")
    return number if number >= 0 else NO_ID
