"""Reader of Ultralytics' pose predictions: rows of `save_txt`, or the JSON of `Results.to_json`.

Format: `Results.save_txt` and `Results.summary` in ultralytics/engine/results.py. A text file per frame
(`NAME_FRAME.txt`; none where nobody was found) has one row per person: class, box (4 numbers), x, y and score or x
and y per joint as fractions of the picture, then the person's confidence with `save_conf`, and the id with
tracking. In JSON a person is `{"keypoints": {"x": [V], "y": [V], "visible": [V]}, "track_id"}` in pixels, or with
`normalize=True` in fractions. A joint at (0, 0) was not found.
"""

from typing import Any

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.json_text import entry, joint_numbers, listed, parse_json, whole_number
from skelpipe.raw.poses.people import NO_ID, People, are_fractions, gather, in_pixels, recording_of
from skelpipe.raw.recording import Recording
from skelpipe.raw.table import lines_of, numbers_of

__all__ = ["read_ultralytics", "read_ultralytics_frame", "ultralytics_pixels"]

BEFORE = 5  # class and box


def read_ultralytics(text: np.ndarray, name: str, form: Form) -> Recording:
    """Read a JSON file of a whole video: a list with the list of people of each frame."""
    frames = listed(parse_json(text, name), name, "a list with a list of people per frame")
    if frames and all(isinstance(one, dict) for one in frames):
        raise RawError(
            f"{name}: a list of people, those of one frame: the reader ultralytics reads one file per frame"
        )
    people = {
        number: _people(listed(one, f"{name}: frame {number}"), form, f"{name}: frame {number}, ")
        for number, one in enumerate(frames, 1)
    }
    return recording_of(people, name, form, ultralytics_pixels)


def read_ultralytics_frame(text: np.ndarray, name: str, form: Form) -> People:
    """Read the people of one frame, rows or JSON."""
    if bytes(text[:64]).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{"):
        return _people(listed(parse_json(text, name), name), form, f"{name}: ")
    points, scores, ids = [], [], []
    for line, words in lines_of(text, name):
        values = numbers_of(words, f"{name}:{line}")
        found, sure, number = _row(words, values, form, f"{name}:{line}")
        points.append(found)
        scores.append(sure)
        ids.append(number)
    seen = [one for one in scores if one is not None]
    if seen and len(seen) < len(scores):
        raise RawError(f"{name}: some rows have scores, others have none")
    return gather(points, seen or None, ids, form.joints)


def _row(
    words: list[str], values: list[float], form: Form, where: str
) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Return positions [V,2], scores [V] or None, and the id of a person."""
    V = form.joints
    for each in (3, 2):
        more = len(values) - BEFORE - each * V
        if 0 <= more <= 2:
            break
    else:
        wanted = f"{BEFORE + 3 * V} numbers (class, box, {V} times x y score)"
        raise RawError(f"{where}: {wanted} are expected, or {BEFORE + 2 * V} without scores; found {len(values)}")
    points = joint_numbers(values[BEFORE : BEFORE + each * V], form.layout.joints, each, where)
    # One more number is the id if it is written as a whole one, else the person's confidence.
    tracked = more == 2 or (more == 1 and words[-1].isdecimal())
    number = whole_number(values[-1], f"{where}: track id") if tracked else NO_ID
    return _found(points[:, :2]), points[:, 2] if each == 3 else None, number


def _people(people: list[Any], form: Form, where: str) -> People:
    points, scores, ids = [], [], []
    joints = form.layout.joints
    for number, one in enumerate(people, 1):
        place = f"{where}person {number}"
        keypoints = entry(one, "keypoints", place)
        x, y = (joint_numbers(entry(keypoints, key, place), joints, 1, f"{place}, {key}") for key in "xy")
        points.append(_found(np.concatenate([x, y], axis=1)))
        if "visible" in keypoints:
            scores.append(joint_numbers(keypoints["visible"], joints, 1, f"{place}, visible")[:, 0])
        ids.append(whole_number(one.get("track_id", NO_ID), f"{place}: track_id"))
    if scores and len(scores) < len(points):
        raise RawError(f"{where}some people have 'visible', others have none")
    return gather(points, scores or None, ids, form.joints)


def _found(points: np.ndarray) -> np.ndarray:
    points = points.copy()
    points[~points.any(axis=1)] = np.nan
    return points


def ultralytics_pixels(xyz: np.ndarray, name: str, form: Form) -> np.ndarray:
    """Return positions in pixels, also of fractions of the picture."""
    return in_pixels(xyz, name, form) if are_fractions(xyz, name) else xyz
