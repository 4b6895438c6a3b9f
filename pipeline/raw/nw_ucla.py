"""Strict reader of Northwestern-UCLA JSON: `{"file_name": …, "skeletons": [T][20][3]}`, one body, metres."""

import json
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.recording import Recording

__all__ = ["read_nw_ucla"]

KEY = "skeletons"
AXES = 3
NUMBERS = {int, float}  # the types of JSON's numbers; not bool, which is an int too
LONGEST = 40  # characters of a value that a message quotes


def read_nw_ucla(text: np.ndarray, name: str, joints: int = 20) -> Recording:
    """Parse the bytes of a JSON file, uint8 [n+1]: the content and one newline that the caller adds.

    A frame whose joints are all at the origin shows no body. The file has no body ids: all are 0. Keys other than
    `skeletons` are ignored. Raises RawError that names file, frame and joint (both from 1).
    """
    frames = _skeletons(bytes(text[:-1]), name)
    if not isinstance(frames, list) or not frames:
        raise RawError(f"{name}: {KEY} is to be a list of frames, found {_shown(frames)}")
    xyz = _positions(frames, name, joints)
    if not np.isfinite(xyz).all():
        frame, joint, _ = np.argwhere(~np.isfinite(xyz))[0]
        raise RawError(f"{_at(name, frame, joint)}: {xyz[frame, joint].tolist()} holds a value that is not finite")
    seen: np.ndarray = xyz.any(axis=(1, 2))
    if not seen.any():
        raise RawError(f"{name}: no body in any of its {len(xyz)} frames")
    return Recording(seen.astype(np.int32), np.zeros(int(seen.sum()), np.int64), xyz[seen])


def _skeletons(content: bytes, name: str) -> Any:
    if not content.strip():
        raise RawError(f"{name}: the file is empty")
    try:
        top = json.loads(content.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise RawError(f"{name}: byte {error.start + 1} is no UTF-8 text; JSON files are UTF-8") from None
    except json.JSONDecodeError as error:
        cut_off = " (cut off in download?)" if error.pos >= len(error.doc.rstrip()) else ""
        raise RawError(f"{name}:{error.lineno}: column {error.colno}: no JSON: {error.msg}{cut_off}") from None
    except RecursionError:
        raise RawError(f"{name}: no JSON of skeletons: it is nested too deeply") from None
    except ValueError as error:  # a number of too many digits, or `_no_constant`
        raise RawError(f"{name}: {error}") from None
    if not isinstance(top, dict) or KEY not in top:
        found = f"the keys {_shown(sorted(top))}" if isinstance(top, dict) else _shown(top)
        raise RawError(f"{name}: a JSON object with the key {KEY!r} is expected, found {found}")
    return top[KEY]


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no position: every value is to be a finite number")


def _positions(frames: list[Any], name: str, joints: int) -> np.ndarray:
    """Return float64 [T,V,3]; RawError at the first frame, joint or value of another form."""
    for number, frame in enumerate(frames):
        if type(frame) is not list or len(frame) != joints:
            found = f"{len(frame)} joints" if type(frame) is list else _shown(frame)
            raise RawError(f"{name}: frame {number + 1}: {joints} joints are expected, found {found}")
    rows = list(chain.from_iterable(frames))
    for number, row in enumerate(rows):
        if type(row) is not list or len(row) != AXES:
            where = _at(name, *divmod(number, joints))
            raise RawError(f"{where}: {AXES} numbers are expected, found {_shown(row)}")
    values = list(chain.from_iterable(rows))
    if not set(map(type, values)) <= NUMBERS:
        wrong = next(number for number, value in enumerate(values) if type(value) not in NUMBERS)
        raise RawError(f"{_at(name, *divmod(wrong // AXES, joints))}: {_shown(values[wrong])} is not a number")
    try:
        return np.array(values, np.float64).reshape(-1, joints, AXES)
    except OverflowError:
        raise RawError(f"{name}: a whole number is too large for a position") from None


def _at(name: str, frame: int, joint: int) -> str:
    return f"{name}: frame {frame + 1}, joint {joint + 1}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
