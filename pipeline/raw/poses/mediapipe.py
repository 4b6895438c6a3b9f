"""Reader of MediaPipe Pose's 33 landmarks, which people keep as .npy, CSV or JSON: one file per recording.

A landmark is x, y, z, visibility and perhaps presence; y grows downwards (docs of the Pose Landmarker). World
landmarks are metres about the middle of the hips; normalised ones are fractions of the picture's width and height,
with z about the hips in the scale of x.
"""

from typing import Any

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.json_text import entry, joint_numbers, listed, parse_json
from skelpipe.raw.npy import read_array
from skelpipe.raw.poses.number_table import table_recording
from skelpipe.raw.poses.people import NO_ID, People, gather, in_pixels, joint_key, recording_of
from skelpipe.raw.recording import Recording
from skelpipe.raw.table import Table, read_table
from skelpipe.untrusted import described

__all__ = ["NPY", "mediapipe_positions", "read_mediapipe"]

NPY = b"\x93NUMPY"
AXES, SCORE = 3, 3  # x, y, z; where visibility is
NUMBERS = (3, 4, 5)  # per landmark
NESTED = ("pose_world_landmarks", "world_landmarks", "pose_landmarks", "landmarks", "keypoints", "landmark")
CENTRED = 0.02  # metres; world landmarks have the middle of the hips at 0, but for rounding
FRACTION = 2  # the median of normalised coordinates is below, that of pixels far above


def read_mediapipe(text: np.ndarray, name: str, form: Form) -> Recording:
    """Read landmarks: an array [T,33,C] or [T,33*C] with C = 3, 4 or 5, a table, or lists of lists or objects.

    Whether they are world landmarks is proven by the hips. A frame of zeros, NaN or nothing is one without
    anybody; the score is the visibility.
    """
    start = bytes(text[:64])
    if start.startswith(NPY):
        frames = _frames_of_array(read_array(text[:-1], name), name, form)
    elif start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{"):
        frames = _frames_of_json(parse_json(text, name), name, form)
    else:
        table = read_table(text, name)
        if table.header is not None:
            return table_recording(table, name, form, mediapipe_positions)
        frames = _frames_of_array(_without_numbers(table, form), name, form)
    return recording_of(frames, name, form, mediapipe_positions)


def _without_numbers(table: Table, form: Form) -> np.ndarray:
    """Return the rows of a table, without a first column that counts frames."""
    rows = table.numbers
    counts = rows.shape[1] % form.joints == 1 and len(rows) > 1 and bool(np.all(np.diff(rows[:, 0]) == 1))
    return rows[:, 1:] if counts else rows


def _frames_of_array(array: np.ndarray, name: str, form: Form) -> dict[int, People]:
    V = form.joints
    if array.dtype.kind not in "fiu":
        raise RawError(f"{name}: an array of floats or integers is expected, found {array.dtype}")
    shape = list(array.shape)
    if array.ndim == 2 and array.shape[1] in [V * each for each in NUMBERS]:
        array = array.reshape(len(array), V, -1)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[2] != V or array.shape[3] not in NUMBERS:
        raise RawError(f"{name}: an array [frames,{V},3 to 5] is expected, found the shape {shape}")
    if array.shape[1] > array.shape[0]:
        raise RawError(
            f"{name}: more bodies than frames, shape {shape}: the axes frames, bodies, joints are expected"
        )
    array = array.astype(np.float64)
    if (infinite := np.isinf(array)).any():
        frame, _, joint, _ = np.argwhere(infinite)[0]
        raise RawError(
            f"{name}: frame {frame + 1}, joint {joint + 1} ({form.layout.joints[joint]}): a value is not finite"
        )
    return {number: _people(bodies, form) for number, bodies in enumerate(array, 1)}


def _people(bodies: np.ndarray, form: Form) -> People:
    """Return the people of one frame, [M,V,C]; ids are the slots."""
    there = np.flatnonzero(np.nan_to_num(bodies[..., :AXES]).any(axis=(1, 2)))
    scores = list(bodies[there][..., SCORE]) if bodies.shape[2] > AXES else None
    return gather(list(bodies[there][..., :AXES]), scores, there.tolist(), form.joints)


def _frames_of_json(content: Any, name: str, form: Form) -> dict[int, People]:
    if isinstance(content, dict) and "frames" in content:
        content = content["frames"]
    frames = {}
    for number, one in enumerate(listed(content, name, "a list with the landmarks of each frame"), 1):
        where = f"{name}: frame {number}"
        people = [_landmarks(found, form, where) for found in _bodies(one, where)]
        widths = {found.shape[1] for found in people}
        if len(widths) > 1:
            raise RawError(f"{where}: people with different numbers per landmark")
        scores = [found[:, SCORE] for found in people] if widths and widths.pop() > AXES else None
        ids = [0] if len(people) == 1 else [NO_ID] * len(people)
        frames[number] = gather([found[:, :AXES] for found in people], scores, ids, form.joints)
    if any(len(one.xyz) > 1 for one in frames.values()):
        return {number: People(one.xyz, one.scores, [NO_ID] * len(one.xyz)) for number, one in frames.items()}
    return frames


def _bodies(frame: Any, where: str) -> list[Any]:
    """Return the lists of landmarks of a frame: one, several, or none for null and empty lists."""
    while isinstance(frame, dict):
        key = next((key for key in NESTED if key in frame), None)
        if key is None:
            raise RawError(f"{where}: an object with 'landmarks' is expected, found the keys {sorted(frame)[:5]}")
        frame = frame[key]
    if frame is None or frame == []:
        return []
    inside = listed(frame, where, "a list of landmarks")[0]
    deep = isinstance(inside, list) and inside and isinstance(inside[0], list | dict)
    return [one for one in frame if one] if deep else [frame]


def _landmarks(found: Any, form: Form, where: str) -> np.ndarray:
    """Return float64 [V,C] of a list of V objects or lists of numbers."""
    joints = form.layout.joints
    for number, (one, joint) in enumerate(zip(listed(found, where), joints, strict=False), 1):
        name = one.get("name", joint) if isinstance(one, dict) else joint
        if joint_key(str(name)) != joint_key(joint):
            raise RawError(f"{where}: landmark {number} is {described(name)}, expected {joint!r}")
    if found and isinstance(found[0], dict):
        keys = ["x", "y", "z", *(["visibility"] if "visibility" in found[0] else [])]
        found = [
            [entry(one, key, f"{where}, joint {index + 1}") for key in keys] for index, one in enumerate(found)
        ]
    each = len(found[0]) if isinstance(found[0], list) else len(found) // len(joints)
    if each not in NUMBERS:
        raise RawError(
            f"{where}: {len(joints)} landmarks of 3 to 5 numbers are expected, found {len(found)} values"
        )
    return joint_numbers(found, joints, each, where)


def mediapipe_positions(xyz: np.ndarray, name: str, form: Form) -> np.ndarray:
    """Return world landmarks as they are (metres), normalised ones in pixels.

    World landmarks have the middle of the hips at the origin in every frame.
    """
    keys = [joint_key(joint) for joint in form.layout.joints]
    if not {("left", "hip"), ("right", "hip")} <= set(keys):
        raise RawError(
            f"{name}: the layout {form.layout.name} has no left and right hip, which show what landmarks are"
        )
    left, right = keys.index(("left", "hip")), keys.index(("right", "hip"))
    middle = (xyz[:, left] + xyz[:, right]) / 2
    known = middle[~np.isnan(middle).any(axis=1)]
    if len(known) and np.abs(known).max() <= CENTRED:
        return xyz
    if np.nanmedian(np.abs(xyz[..., :2])) >= FRACTION:  # somebody has multiplied them by the picture's size
        return xyz
    return in_pixels(xyz, name, form, depth=True)
