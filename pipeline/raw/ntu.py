"""Strict reader of NTU RGB+D `.skeleton` text.

A file holds: the number of frames; per frame the number of bodies; per body a line of 10 values (body id first),
the number of joints, and one line of 12 values per joint (x y z first). The number of columns of every line is
checked; ids must be whole numbers; x, y and z must be finite numbers, or NaN for a joint that was not found. The
other columns are not parsed: they may hold any characters that numbers are written with, or a spelling of infinity
or NaN, which Kinect writes where a joint has no pixel; anything else is refused. Lines end with LF or CRLF.
"""

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw import ntu_scan
from skelpipe.raw.recording import Recording
from skelpipe.untrusted import described

__all__ = ["read_skeleton"]


def read_skeleton(text: np.ndarray, name: str, joints: int = 25) -> Recording:
    """Parse a `.skeleton` file's bytes.

    `text` is uint8 [n+1]: the content and one newline that the caller adds (see `skelpipe.raw.source.TextBuffer`).
    `name` is the file's name in error messages. Raises RawError that names file, line and frame (both from 1).
    """
    size = len(text) - 1
    if size == 0:
        raise RawError(f"{name}: the file is empty")
    frames = ntu_scan.frame_count(text)
    if frames == 0:
        raise RawError(f"{name}:1: the recording has no frames")
    if frames > size // 2:  # a frame needs at least a digit and a line end
        raise RawError(f"{name}:1: {frames} frames are announced, more than a file of {size} bytes can hold")
    room = size // (24 * joints + 22) + 1  # bodies; the divisor is the shortest text of one body
    counts = np.zeros(max(frames, 0), np.int32)
    ids = np.empty(room, np.int64)
    xyz = np.empty((room, joints, 3))
    result = ntu_scan.scan(text, size, joints, counts, ids, xyz)
    if result[0] != ntu_scan.OK:
        raise RawError(_message(text, size, name, joints, counts, result))
    bodies = result[-1]
    return Recording(counts, ids[:bodies], xyz[:bodies])


def _message(
    text: np.ndarray,
    size: int,
    name: str,
    joints: int,
    counts: np.ndarray,
    result: tuple[int, int, int, int, int, int],
) -> str:
    code, line, frame, body, joint, detail = result
    where = f"{name}:{line}: frame {frame + 1}"
    inside = f"{where}, body {body + 1}" + (f", joint {joint + 1}" if joint >= 0 else "")
    if code == ntu_scan.BAD_FRAME_COUNT:
        return f"{name}:1: the number of frames is expected, found {_token(text, size, 0)}"
    if code == ntu_scan.TRAILING:
        return f"{name}:{line}: text follows the last of the {len(counts)} frames announced"
    if code == ntu_scan.ENDS_EARLY:
        return _cut_off(where, inside, joints, counts, frame, joint)
    if code == ntu_scan.BAD_BODY_COUNT:
        return f"{where}: the number of bodies is expected, found {_token(text, size, detail)}"
    if code == ntu_scan.BAD_JOINT_COUNT:
        found = f"{detail} joints" if detail >= 0 else _token(text, size, -1 - detail)
        return f"{inside}: {joints} joints are expected, found {found}"
    if code == ntu_scan.BAD_COLUMNS:
        if joint > 0 and detail in (1, ntu_scan.BODY_COLUMNS):
            return f"{where} announces {joints} joints, {joint} follow"
        expected = ntu_scan.JOINT_COLUMNS if joint >= 0 else ntu_scan.BODY_COLUMNS
        last = np.count_nonzero(text[:size] == ord("\n")) < line
        end = ", and the file ends there (cut off in download?)" if last else ""
        return f"{inside}: {expected} columns are expected, found {detail}{end}"
    if code == ntu_scan.BAD_ID:
        return f"{inside}: the body id is expected, found {_token(text, size, detail)}"
    wanted = "a finite number" if code == ntu_scan.NOT_FINITE else "a number"
    return f"{inside}: {_token(text, size, detail)} is not {wanted}"


def _cut_off(where: str, inside: str, joints: int, counts: np.ndarray, frame: int, joint: int) -> str:
    if joint >= 0 and counts[frame]:
        return f"{inside}: the file ends after {joint} of {joints} joints (cut off in download?)"
    return f"{where}: the file ends before the last of the {len(counts)} frames announced (cut off in download?)"


def _token(text: np.ndarray, size: int, start: int) -> str:
    word = bytes(text[start : min(start + 40, size)]).split(b"\n")[0].split()
    return described(word[0].decode("ascii", "backslashreplace")) if word else "an empty line"
