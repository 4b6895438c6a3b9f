"""Frames of a recording as lines of JSON, as programs that follow a camera write them: one frame per line."""

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.json_text import entry, joint_numbers, listed, parse_json, whole_number
from skelpipe.raw.recording import Recording

__all__ = ["is_frame", "read_frame_line"]

BODIES, IDS = "bodies", "ids"
MOST_BODIES = 256  # of one frame
AXES = {"x": 0, "y": 1, "z": 2}


def is_frame(content: object) -> bool:
    """Return whether the content of a line of JSON has the form that `read_frame_line` reads."""
    if isinstance(content, list):
        return not content or isinstance(content[0], list)
    return content is None or (isinstance(content, dict) and BODIES in content)


def read_frame_line(line: bytes, where: str, form: Form) -> Recording:
    """Return the frame in a line of JSON as a recording of one frame.

    A line is the list of the bodies, each a list of its V joints `[x, y, z]` (or what `form` declares; without a
    declaration also `[x, y]`); a body alone; an object `{"bodies": [...], "ids": [...]}`; or `null` or `[]`, where
    nobody is seen. A joint that was not found is a list of `null`. Without ids a body is followed by its place in
    the list. Raises RawError, which begins with `where`, for anything else.
    """
    content = parse_json(np.frombuffer(line + b"\n", np.uint8), where)
    ids: list[int] | None = None
    if isinstance(content, dict):
        if IDS in content:
            ids = [whole_number(value, f"{where}: {IDS}") for value in listed(content[IDS], f"{where}: {IDS}")]
        content = entry(content, BODIES, where)
    bodies = [] if content is None else listed(content, where, "a list of bodies")
    if bodies and isinstance(bodies[0], list) and bodies[0] and not isinstance(bodies[0][0], list):
        bodies = [bodies]  # one body, a list of joints
    if len(bodies) > MOST_BODIES:
        raise RawError(f"{where}: {len(bodies)} bodies are more than the {MOST_BODIES} of a frame")
    if ids is not None and len(ids) != len(bodies):
        raise RawError(f"{where}: {len(bodies)} bodies have {len(ids)} ids")
    channels = form.channels or _channels(bodies)
    xyz = np.zeros((len(bodies), form.joints, 3))
    scores = np.zeros((len(bodies), form.joints)) if "score" in channels else None
    for number, body in enumerate(bodies):
        points = joint_numbers(body, form.layout.joints, len(channels), f"{where}, body {number + 1}")
        for column, name in enumerate(channels):
            if name in AXES:
                xyz[number, :, AXES[name]] = points[:, column]
            elif scores is not None:
                scores[number] = np.nan_to_num(points[:, column])
    xyz[np.isnan(xyz).any(axis=2)] = np.nan
    counts = np.array([len(bodies)], np.int32)
    return Recording(counts, np.array(range(len(bodies)) if ids is None else ids, np.int64), xyz, scores)


def _channels(bodies: list[object]) -> tuple[str, ...]:
    body = bodies[0] if bodies else None
    point = body[0] if isinstance(body, list) and body else None
    if isinstance(point, list) and len(point) == 2:
        return ("x", "y")
    return ("x", "y", "z")
