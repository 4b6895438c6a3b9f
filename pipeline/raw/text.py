"""What text files become on their way through other programs: byte order marks, other line ends, NUL bytes, NaN.

The scanners of text are strict and fast. Only a text that one of them refuses is looked at here, and read again
if it is the same text in another dress.
"""

import re
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from skelpipe.errors import RawError

__all__ = ["in_utf8", "is_nan", "json_nan", "read_as_text"]

T = TypeVar("T")

UTF8_MARK = b"\xef\xbb\xbf"
UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
# How C libraries print NaN: glibc and BSD (nan, -nan, nan(0x8000)), older Windows (1.#QNAN, -1.#IND00, 1.#SNAN),
# newer Windows (nan(ind), nan(snan)).
_SPELLING = r"[+-]?(nan(\(\w*\))?|1\.#(ind|[qs]?nan)0*)"
_NAN = re.compile(_SPELLING.encode(), re.IGNORECASE)
_JSON_NAN = re.compile(rf"(?<=[\[,:\s]){_SPELLING}(?=\s*[,\]}}])", re.IGNORECASE)


def is_nan(word: bytes) -> bool:
    """Return whether a word is one of the C libraries' spellings of NaN."""
    return _NAN.fullmatch(word) is not None


def json_nan(text: str) -> str:
    """Return JSON with the C libraries' spellings of NaN as the token that Python reads."""
    return _JSON_NAN.sub("NaN", text)


def in_utf8(content: bytes, name: str) -> bytes:
    """Return a text in UTF-8: one with the mark of UTF-16 is converted; RawError if it is none."""
    coding = UTF16.get(content[:2])
    if not coding:
        return content
    try:
        return content[2:].decode(coding).encode()
    except UnicodeDecodeError:
        raise RawError(f"{name}: starts like UTF-16 text, but is none: damaged; save it as UTF-8") from None


def read_as_text(read: Callable[[np.ndarray], T], text: np.ndarray, name: str) -> T:
    """Return `read(text)`; where it refuses the text, read it without byte order mark and CR line ends.

    `text` is uint8 [n+1], with a newline at the end. A text with NUL bytes is refused by a RawError that says so.
    """
    try:
        return read(text)
    except RawError:
        plain = _plain(text, name)
        if plain is None:
            raise
    return read(plain)


def _plain(text: np.ndarray, name: str) -> np.ndarray | None:
    """Return the text in UTF-8 without a mark, with LF line ends; None if it was so already."""
    content = bytes(text[:-1])
    coding = UTF16.get(content[:2])
    plain = in_utf8(content.removeprefix(UTF8_MARK), name)
    nul = plain.find(b"\0")
    if nul >= 0:
        at = nul + len(content) - len(plain) if not coding else 0
        count = len(plain) - len(plain.replace(b"\0", b""))
        raise RawError(
            f"{name}: holds {count:,} NUL bytes, the first at byte {at}: damaged in download or on disk"
        )
    if b"\r" in plain and b"\n" not in plain:
        plain = plain.replace(b"\r", b"\n")
    if plain == content:
        return None
    return np.frombuffer(plain + b"\n", np.uint8)
