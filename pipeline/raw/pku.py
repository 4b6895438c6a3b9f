"""Strict reader of PKU-MMD skeleton text: one line per frame, `x y z` of every joint of two bodies, metres.

Numbers are separated by blanks, lines end with LF or CRLF. An absent body is written as zeros.
"""

import math
import re

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw import pku_scan
from skelpipe.raw.recording import Recording
from skelpipe.raw.text import is_nan

__all__ = ["read_pku"]

BODIES, AXES = 2, 3
INFINITE = (b"inf", b"infinity", b"1.#inf")
LONGEST_WORD = 40  # characters of a word that a message quotes
_WORD = re.compile(rb"[^ \t\r\n]*")


def read_pku(text: np.ndarray, name: str, joints: int = 25) -> Recording:
    """Parse the bytes of a skeleton file, uint8 [n+1]: the content and one newline that the caller adds.

    The second body is present in a frame iff its values do not sum to zero; the first is absent only where all its
    values are zero and the second is absent too, so that bodies keep their slots. Every frame is kept, even one
    without bodies. NaN stands for a joint that was not found; a body of nothing else is absent. The file has no
    body ids: they are 0 and 1. Every number equals `float` of its text, however many digits it has. Raises
    RawError that names file, line and frame (both from 1).
    """
    values = _table(text, name, joints)
    unseen = np.isnan(values).reshape(-1, BODIES, joints * AXES).all(axis=2)
    values.reshape(-1, BODIES, joints * AXES)[unseen] = 0  # NaN throughout is another way to write an absent body
    first, second = values[:, : joints * AXES], values[:, joints * AXES :]
    with np.errstate(over="ignore", invalid="ignore"):  # a sum of huge numbers may overflow; it is not zero then
        present = np.stack([first.any(axis=1), second.sum(axis=1) != 0], axis=1)
    present[:, 0] |= present[:, 1]
    listed = np.flatnonzero(present)
    xyz = values.reshape(-1, joints, AXES)[listed]
    return Recording(present.sum(axis=1, dtype=np.int32), listed % BODIES, xyz)


def _table(text: np.ndarray, name: str, joints: int) -> np.ndarray:
    """Read the file's numbers, float64 [F, bodies x joints x axes]."""
    columns = BODIES * joints * AXES
    room = (len(text) - 1) // (2 * columns) + 1  # a number needs at least a digit and a blank
    values = np.empty((room, columns))
    row = column = p = 0
    while True:
        code, row, column, p = pku_scan.scan(text, values, row, column, p)
        if code not in (pku_scan.UNDECIDED, pku_scan.BAD_NUMBER):
            break
        word = _word(text, p)
        if code == pku_scan.BAD_NUMBER and not is_nan(word):
            break
        values[row, column] = math.nan if is_nan(word) else float(word)
        if math.isinf(values[row, column]):
            raise RawError(f"{_value(name, joints, row, column)}: {_quoted(word)} is not a finite number")
        column, p = column + 1, p + len(word)
    if code == pku_scan.BAD_NUMBER:
        word = _word(text, p)
        wanted = "a finite number" if word.lower().lstrip(b"+-").rstrip(b"0") in INFINITE else "a number"
        raise RawError(f"{_value(name, joints, row, column)}: {_quoted(word)} is not {wanted}")
    if code == pku_scan.BAD_COLUMNS:
        cut_off = column < columns and not bytes(text[p:]).partition(b"\n")[2].strip()
        end = " (cut off in download?)" if cut_off else ""
        raise RawError(f"{_frame(name, row)}: {columns} columns are expected, found {column}{end}")
    if code == pku_scan.EMPTY_LINE:
        raise RawError(f"{_frame(name, row)}: the line is empty, and more follow")
    if row == 0:
        raise RawError(f"{name}: the file is empty")
    return values[:row]


def _word(text: np.ndarray, p: int) -> bytes:
    found = _WORD.match(text.data, p)
    return found.group() if found else b""


def _frame(name: str, row: int) -> str:
    return f"{name}:{row + 1}: frame {row + 1}"


def _value(name: str, joints: int, row: int, column: int) -> str:
    body, column = divmod(column, joints * AXES)
    return f"{_frame(name, row)}, body {body + 1}, joint {column // AXES + 1}"


def _quoted(word: bytes) -> str:
    return repr(word[:LONGEST_WORD].decode("ascii", "backslashreplace"))
