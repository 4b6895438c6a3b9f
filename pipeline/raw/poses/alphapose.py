"""Reader of AlphaPose's `alphapose-results.json`: one JSON file per video, in its own format, `open` or `cmu`.

Format: doc/output.md of MVIG-SJTU/AlphaPose and `write_json` in its `alphapose/utils/pPose_nms.py`. Its own is a
list with an entry per person: `image_id` (`12.jpg`: frame 12), `keypoints` (x, y, score per joint), and `idx` with
tracking. `open` and `cmu` are objects with a key per image, whose people have OpenPose's 18 joints.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.json_text import entry, listed, parse_json, whole_number
from skelpipe.raw.poses.openpose import openpose_points
from skelpipe.raw.poses.people import NO_ID, gather, last_number, recording_of
from skelpipe.raw.recording import Recording
from skelpipe.untrusted import described, shown

__all__ = ["read_alphapose"]

WRAPPED = {"people": "pose_keypoints_2d", "bodies": "joints"}  # formats open and cmu


def read_alphapose(text: np.ndarray, name: str, form: Form) -> Recording:
    """Read a video's people, frames in the order of the numbers in `image_id`, from the lowest one.

    Scores may exceed 1, as AlphaPose writes them. Raises RawError that names the entry, the person and the joint.
    """
    content = parse_json(text, name)
    if isinstance(content, dict) and (held := [key for key in WRAPPED if key in content]):
        raise RawError(f"{name}: holds the {held[0]} of one frame: the reader openpose reads one file per frame")
    images: dict[int, str] = {}
    points: dict[int, list[np.ndarray]] = {}
    ids: dict[int, list[int]] = {}
    for image, values, number, where in _people(content, name):
        frame = image if isinstance(image, int) else last_number(image, where)
        if images.setdefault(frame, str(image)) != str(image):
            raise RawError(
                f"{where}: {described(images[frame])} and {described(image)} have the same number:"
                " pictures of two videos?"
            )
        points.setdefault(frame, [])
        ids.setdefault(frame, [])
        if values is not None:
            points[frame].append(openpose_points(values, form, where, 2))
            ids[frame].append(number)
    frames = {
        frame: gather([one[:, :2] for one in found], [one[:, 2] for one in found], ids[frame], form.joints)
        for frame, found in points.items()
    }
    return recording_of(frames, name, form)


def _people(content: Any, name: str) -> Iterator[tuple[str | int, Any, int, str]]:
    """Yield image, keypoints, id and place of each person; keypoints None for an image without anybody."""
    if isinstance(content, dict):
        for image, wrapped in content.items():
            kinds = [key for key in WRAPPED if isinstance(wrapped, dict) and key in wrapped]
            if len(kinds) != 1:
                raise RawError(f"{name}: {described(image)}: an object with 'people' or 'bodies' is expected")
            people = listed(wrapped[kinds[0]], f"{name}: {described(image)}: {kinds[0]}")
            if not people:
                yield image, None, NO_ID, f"{name}: {described(image)}"
            for number, person in enumerate(people, 1):
                where = f"{name}: {described(image)}, person {number}"
                yield image, entry(person, WRAPPED[kinds[0]], where), NO_ID, where
        return
    for number, person in enumerate(listed(content, name), 1):
        where = f"{name}: entry {number}"
        image = entry(person, "image_id", where)
        if not isinstance(image, str):
            image = whole_number(image, f"{where}: image_id")
        where = f"{where} ({shown(image, 40)})"
        one = person.get("idx", NO_ID)
        if isinstance(one, list) and len(one) == 1:
            one = one[0]
        yield image, entry(person, "keypoints", where), whole_number(one, f"{where}: idx"), where
