"""Strict reader of Northwestern-UCLA JSON: `{"file_name": …, "skeletons": [T][20][3]}`, one body, metres."""

from itertools import chain
from typing import Any

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.json_text import entry, listed, parse_json
from skelpipe.raw.recording import Recording
from skelpipe.untrusted import described

__all__ = ["read_nw_ucla"]

KEY = "skeletons"
AXES = 3
NUMBERS = {int, float}  # the types of JSON's numbers; not bool, which is an int too


def read_nw_ucla(text: np.ndarray, name: str, joints: int = 20) -> Recording:
    """Parse the bytes of a JSON file, uint8 [n+1]: the content and one newline that the caller adds.

    A frame whose joints are all at the origin shows no body; a joint that is NaN was not found. The file has no
    body ids: all are 0. Keys other than `skeletons` are ignored. Raises RawError that names file, frame and joint
    (both from 1).
    """
    frames = listed(entry(parse_json(text, name), KEY, name), f"{name}: {KEY}", "a list of frames")
    if not frames:
        raise RawError(f"{name}: {KEY} holds no frame")
    xyz = _positions(frames, name, joints)
    if np.isinf(xyz).any():
        frame, joint, _ = np.argwhere(np.isinf(xyz))[0]
        raise RawError(f"{_at(name, frame, joint)}: {xyz[frame, joint].tolist()} holds a value that is not finite")
    seen = np.asarray(xyz.any(axis=(1, 2)))
    if not seen.any():
        raise RawError(f"{name}: no body in any of its {len(xyz)} frames")
    return Recording(seen.astype(np.int32), np.zeros(int(seen.sum()), np.int64), xyz[seen])


def _positions(frames: list[Any], name: str, joints: int) -> np.ndarray:
    """Return float64 [T,V,3]; RawError at the first frame, joint or value of another form."""
    for number, frame in enumerate(frames):
        if type(frame) is not list or len(frame) != joints:
            found = f"{len(frame)} joints" if type(frame) is list else described(frame)
            raise RawError(f"{name}: frame {number + 1}: {joints} joints are expected, found {found}")
    rows = list(chain.from_iterable(frames))
    for number, row in enumerate(rows):
        if type(row) is not list or len(row) != AXES:
            where = _at(name, *divmod(number, joints))
            raise RawError(f"{where}: {AXES} numbers are expected, found {described(row)}")
    values = list(chain.from_iterable(rows))
    if not set(map(type, values)) <= NUMBERS:
        wrong = next(number for number, value in enumerate(values) if type(value) not in NUMBERS)
        raise RawError(f"{_at(name, *divmod(wrong // AXES, joints))}: {described(values[wrong])} is not a number")
    try:
        return np.array(values, np.float64).reshape(-1, joints, AXES)
    except OverflowError:
        raise RawError(f"{name}: a whole number is too large for a position") from None


def _at(name: str, frame: int, joint: int) -> str:
    return f"{name}: frame {frame + 1}, joint {joint + 1}"
