"""Reader of PKU-MMD label files: rows `class,start,end[,confidence]`, one per action in a video."""

import re
from dataclasses import dataclass

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.text import read_as_text

__all__ = ["Segment", "looks_like_labels", "read_segments"]

COLUMNS = ("class", "start", "end", "confidence")
FEWEST_COLUMNS, MOST_COLUMNS = 3, 4
FAR_FROM_COLUMNS = 10  # a row of so many columns is not a label row with a typing error
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST_WORD = 40  # characters of a word that a message quotes
_WHOLE = re.compile(rb"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Segment:
    """One action: its line in the file, its class, its first and its last frame, all counted from 1.

    The numbers are those of the file; the caller checks that such a class and such frames exist.
    """

    line: int
    action: int
    start: int
    end: int


def read_segments(text: np.ndarray, name: str) -> list[Segment]:
    """Parse the bytes of a label file, uint8 [n+1]: the content and one newline that the caller adds.

    Every column holds a whole number, with or without blanks around it; the confidence is checked and left out.
    Lines end with LF, CRLF or CR. Raises RawError that names file and line (from 1) for anything else.
    """
    return read_as_text(lambda plain: _segments(plain, name), text, name)


def _segments(text: np.ndarray, name: str) -> list[Segment]:
    content = bytes(text).removeprefix(BYTE_ORDER_MARK).rstrip()
    if not content:
        raise RawError(f"{name}: the file is empty")
    return [_segment(row, f"{name}:{line}", line) for line, row in enumerate(content.split(b"\n"), 1)]


def _segment(row: bytes, where: str, line: int) -> Segment:
    words = [word.strip() for word in row.split(b",")]
    if words == [b""]:
        raise RawError(f"{where}: the line is empty, and more follow")
    if not FEWEST_COLUMNS <= len(words) <= MOST_COLUMNS:
        raise RawError(f"{where}: 3 or 4 columns ({','.join(COLUMNS)}) are expected, found {len(words)}")
    for word, column in zip(words, COLUMNS, strict=False):
        if not _WHOLE.fullmatch(word):
            spelling = word[:LONGEST_WORD].decode("ascii", "backslashreplace")
            raise RawError(f"{where}: the {column} is to be a whole number, found {spelling!r}")
    return Segment(line, *(int(word) for word in words[:FEWEST_COLUMNS]))


def looks_like_labels(head: bytes) -> bool:
    """Return whether a file that starts with `head` holds label rows, even damaged ones, and not skeleton lines.

    The download gives a video's skeleton file and its label file the same name. Label rows have commas between
    their few columns, skeleton lines have blanks. An empty file holds neither.
    """
    row = head.removeprefix(BYTE_ORDER_MARK).lstrip().partition(b"\n")[0]
    return row.isascii() and 1 < len(row.split(b",")) < FAR_FROM_COLUMNS
