"""Reader of PKU-MMD label files (spec A9): rows `class,start,end[,confidence]` of the actions in a video."""

import re
from dataclasses import dataclass

import numpy as np

from skelpipe.errors import RawError

__all__ = ["Segment", "looks_like_labels", "read_segments"]

COLUMNS = ("class", "start", "end", "confidence")
FEWEST_COLUMNS, MOST_COLUMNS = 3, 4
FAR_FROM_COLUMNS = 10  # a row of so many columns is no label row with a slip
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST_WORD = 40  # that a message repeats
_WHOLE = re.compile(rb"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Segment:
    """One action: its class from 1, its first and last frame from 1, and the line that says so, from 1.

    The numbers are the file's: whether there are such a class and such frames is for the caller to see.
    """

    line: int
    action: int
    start: int
    end: int


def read_segments(text: np.ndarray, name: str) -> list[Segment]:
    """Parse the bytes of a label file, uint8 [n+1] with a newline of the caller's own at the end.

    Every column holds a whole number, blanks around it or not; the confidence is checked and left out. Lines end
    with LF or CRLF. Raises RawError that names file and line (from 1) for anything else.
    """
    content = bytes(text).removeprefix(BYTE_ORDER_MARK).rstrip()
    if not content:
        raise RawError(f"{name}: the file is empty")
    return [_segment(row, f"{name}:{line}", line) for line, row in enumerate(content.split(b"\n"), 1)]


def _segment(row: bytes, place: str, line: int) -> Segment:
    words = [word.strip() for word in row.split(b",")]
    if words == [b""]:
        raise RawError(f"{place}: the line is empty, and more follow")
    if not FEWEST_COLUMNS <= len(words) <= MOST_COLUMNS:
        raise RawError(f"{place}: 3 or 4 columns ({','.join(COLUMNS)}) are expected, found {len(words)}")
    for word, column in zip(words, COLUMNS, strict=False):
        if not _WHOLE.fullmatch(word):
            spelling = word[:LONGEST_WORD].decode("ascii", "backslashreplace")
            raise RawError(f"{place}: the {column} is to be a whole number, found {spelling!r}")
    return Segment(line, *(int(word) for word in words[:FEWEST_COLUMNS]))


def looks_like_labels(head: bytes) -> bool:
    """Say whether the first kilobytes of a file read as label rows, well formed or not, or as skeleton lines.

    The download names a video's skeleton and its labels alike. Commas tell: skeleton lines have blanks between
    their numbers, and label rows have few columns. An empty file is neither.
    """
    row = head.removeprefix(BYTE_ORDER_MARK).lstrip().partition(b"\n")[0]
    return row.isascii() and 1 < len(row.split(b",")) < FAR_FROM_COLUMNS
