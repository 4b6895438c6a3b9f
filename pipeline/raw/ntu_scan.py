"""The byte scanner of `skelpipe.raw.ntu`: from `.skeleton` text to arrays, in one pass, without copies.

numba compiles it once and caches it on disk. It does no I/O and builds no messages: it returns a code and a
position, and `skelpipe.raw.ntu` builds the message.
"""

import numpy as np

from skelpipe.kernels import njit
from skelpipe.raw.wide_reads import clean_columns, plain_rows

__all__ = [
    "BAD_BODY_COUNT",
    "BAD_COLUMNS",
    "BAD_FRAME_COUNT",
    "BAD_ID",
    "BAD_JOINT_COUNT",
    "BAD_NUMBER",
    "ENDS_EARLY",
    "NOT_FINITE",
    "OK",
    "TRAILING",
    "scan",
]

OK, ENDS_EARLY, BAD_FRAME_COUNT, BAD_BODY_COUNT, BAD_ID, BAD_JOINT_COUNT = range(6)
BAD_COLUMNS, BAD_NUMBER, NOT_FINITE, TRAILING = range(6, 10)

# The digest of wide_reads.py. Its code is compiled into the functions of this file, but numba's cache looks only
# at this file: the digest changes it when wide_reads.py changes.
WIDE_READS_DIGEST = "ffae73aea2a6bfd2"

BODY_COLUMNS = 10  # body id, eight flags and leans, tracking state
JOINT_COLUMNS = 12  # x y z, depth x y, colour x y, orientation w x y z, tracking state

DIGIT, SIGN, OTHER, BLANK, LINE_END = 1, 2, 4, 8, 16
_KIND = np.full(256, OTHER, np.uint8)
_KIND[[ord(c) for c in "0123456789"]] = DIGIT
_KIND[[ord(c) for c in "+-.eE"]] = SIGN
_KIND[[ord(c) for c in " \t\r"]] = BLANK
_KIND[ord("\n")] = LINE_END
_POWERS = 10.0 ** np.arange(309)
MOST_DIGITS = 18  # an int64 always holds so many


@njit(cache=True, nogil=True, inline="always")
def _skip_blanks(text: np.ndarray, p: int) -> int:
    while _KIND[text[p]] == BLANK:
        p += 1
    return p


@njit(cache=True, nogil=True)
def _integer(text: np.ndarray, p: int) -> tuple[int, int]:
    """Read a non-negative integer at p; return it and its end, or -1 and p if there is none."""
    start, value = p, 0
    while _KIND[text[p]] == DIGIT:
        value = value * 10 + (text[p] - 48)
        p += 1
    if p == start or p - start > MOST_DIGITS or _KIND[text[p]] < BLANK:
        return -1, start
    return value, p


@njit(cache=True, nogil=True, inline="always")
def _number(text: np.ndarray, p: int) -> tuple[float, int]:
    """Read a decimal number at p; return it and its end, or 0 and p if there is none.

    Correctly rounded up to 15 digits (Kinect writes 7), and within one or two ulp for more digits.
    """
    start = p
    negative = text[p] == 45
    if negative or text[p] == 43:
        p += 1
    mantissa, digits, exponent, any_digit = np.int64(0), 0, 0, False
    while _KIND[text[p]] == DIGIT:
        any_digit = True
        if digits < MOST_DIGITS:
            mantissa = mantissa * 10 + (text[p] - 48)
            digits += mantissa != 0
        else:
            exponent += 1
        p += 1
    if text[p] == 46:
        p += 1
        while _KIND[text[p]] == DIGIT:
            any_digit = True
            if digits < MOST_DIGITS:
                mantissa = mantissa * 10 + (text[p] - 48)
                digits += mantissa != 0
                exponent -= 1
            p += 1
    if not any_digit:
        return 0.0, start
    if text[p] in (101, 69):
        p += 1
        below = text[p] == 45
        if below or text[p] == 43:
            p += 1
        first, power = p, 0
        while _KIND[text[p]] == DIGIT:
            power = min(power * 10 + (text[p] - 48), 9999)
            p += 1
        if p == first:
            return 0.0, start
        exponent += -power if below else power
    if _KIND[text[p]] < BLANK:
        return 0.0, start
    value = float(mantissa)
    if exponent < 0:
        value /= _POWERS[min(-exponent, 308)]
        if exponent < -308:
            value /= _POWERS[min(-exponent - 308, 308)]
    elif exponent > 0 and mantissa != 0:
        value = value * _POWERS[exponent] if exponent <= 308 else np.inf
    return -value if negative else value, p


@njit(cache=True, nogil=True)
def _no_number(text: np.ndarray, p: int) -> tuple[int, int]:
    """Return NAN or INFINITE and the word's end if the word at p spells it in a C library's way, else 0 and p.

    Kinect's tools write these where a joint has no pixel: nan, nan(ind), 1.#QNAN, -1.#IND00, 1.#INF, infinity.
    """
    start = p
    if text[p] in (43, 45):
        p += 1
    windows = text[p] == 49 and text[p + 1] == 46 and text[p + 2] == 35  # 1.#
    if windows:
        p += 3
    word = np.int64(0)
    length = 0
    while text[p] & 223 >= 65 and text[p] & 223 <= 90 and length <= 8:  # letters of either case
        word = word * 32 + (text[p] & 31)
        length += 1
        p += 1
    if windows:
        while text[p] == 48:
            p += 1
    elif word == _NAN and text[p] == 40:  # (ind), (snan), (0x8000)
        p += 1
        while _KIND[text[p]] < BLANK and text[p] != 41:
            p += 1
        if text[p] != 41:
            return 0, start
        p += 1
    if _KIND[text[p]] < BLANK:
        return 0, start
    if word == _NAN or (windows and word in (_IND, _QNAN, _SNAN)):
        return NAN, p
    return (INFINITE, p) if word in (_INF, _INFINITY) else (0, start)


def _packed(word: str) -> int:
    value = 0
    for letter in word:
        value = value * 32 + (ord(letter) & 31)
    return value


NAN, INFINITE = 1, 2
_NAN, _IND, _INF, _QNAN, _SNAN, _INFINITY = (_packed(w) for w in ("nan", "ind", "inf", "qnan", "snan", "infinity"))


@njit(cache=True, nogil=True, inline="always")
def _skip_columns(text: np.ndarray, p: int) -> tuple[int, int, int]:
    """Skip the rest of the line; return its number of columns, its end, and the position of a bad word or -1."""
    columns, bad = 0, -1
    while True:
        p = _skip_blanks(text, p)
        if text[p] == 10:
            return columns, p, bad
        start, seen = p, 0
        kind = _KIND[text[p]]
        while kind < BLANK:
            seen |= kind
            p += 1
            kind = _KIND[text[p]]
        columns += 1
        if (seen & OTHER or not seen & DIGIT) and bad < 0 and _no_number(text, start)[0] == 0:
            bad = start


@njit(cache=True, nogil=True)
def _lone_integer(text: np.ndarray, p: int) -> tuple[int, int]:
    """Read a line that holds one integer; return it and the line's end, or -1 and p."""
    value, end = _integer(text, _skip_blanks(text, p))
    end = _skip_blanks(text, end)
    if value < 0 or text[end] != 10:
        return -1, p
    return value, end


@njit(cache=True, nogil=True)
def _body_row(text: np.ndarray, p: int) -> tuple[int, int, int, int]:
    """Read the line of a body; return a code, the line's end, the detail (see `scan`), and the body's id."""
    start = _skip_blanks(text, p)
    identity, after = _integer(text, start)
    columns, end = clean_columns(text, p)
    if columns == BODY_COLUMNS and identity >= 0:
        return OK, end, 0, identity
    columns, end, bad = _skip_columns(text, after)
    columns += identity >= 0
    if columns != BODY_COLUMNS:
        return BAD_COLUMNS, end, columns, identity
    if identity < 0:
        return BAD_ID, end, start, identity
    return (BAD_NUMBER if bad >= 0 else OK), end, bad, identity


@njit(cache=True, nogil=True)
def _joint_row(text: np.ndarray, p: int, position: np.ndarray) -> tuple[int, int, int]:
    """Read the line of a joint, x y z into position [3], NaN where it says so; return a code, the line's end, and
    the detail.
    """
    first = p
    for axis in range(3):
        start = _skip_blanks(text, p)
        value, p = _number(text, start)
        if p == start:
            kind, p = _no_number(text, start)
            value = np.nan if kind == NAN else np.inf
        if p == start or np.isinf(value):
            columns, end, _ = _skip_columns(text, first)
            if columns != JOINT_COLUMNS:
                return BAD_COLUMNS, end, columns
            return (NOT_FINITE if p > start else BAD_NUMBER), end, start
        position[axis] = value
    columns, end, bad = _skip_columns(text, p)
    if columns + 3 != JOINT_COLUMNS:
        return BAD_COLUMNS, end, columns + 3
    return (BAD_NUMBER if bad >= 0 else OK), end, bad


@njit(cache=True, nogil=True)
def scan(
    text: np.ndarray, size: int, joints: int, counts: np.ndarray, ids: np.ndarray, xyz: np.ndarray
) -> tuple[int, int, int, int, int, int]:
    """Scan `text[:size]` (uint8, `text[size]` a newline) into bodies per frame, body ids and joint positions.

    `counts` int32 [F] (F from the first line, see `frame_count`), `ids` int64 [B], `xyz` float64 [B,joints,3]
    with room for every body the text can hold. Returns (code, line, frame, body, joint, detail): the line counts
    from 1, frame, body and joint from 0; detail is a number of bodies or of columns, or a position in the text.
    """
    text = text[: size + 1]  # no wide read goes beyond this end
    line, total = 1, 0
    frames, p = _lone_integer(text, 0)
    if frames < 0:
        return BAD_FRAME_COUNT, line, 0, 0, 0, 0
    p += 1
    for frame in range(frames):
        line += 1
        if p >= size:
            return ENDS_EARLY, line, frame, 0, 0, 0
        bodies, p = _lone_integer(text, p)
        if bodies < 0:
            return BAD_BODY_COUNT, line, frame, 0, 0, p
        p += 1
        counts[frame] = bodies
        for body in range(bodies):
            line += 1
            if p >= size:
                return ENDS_EARLY, line, frame, body, -2, 0
            code, p, detail, ids[total] = _body_row(text, p)
            if code != OK:
                return code, line, frame, body, -2, detail
            p += 1
            line += 1
            if p >= size:
                return ENDS_EARLY, line, frame, body, -1, 0
            announced, p = _lone_integer(text, p)
            if announced != joints:
                return BAD_JOINT_COUNT, line, frame, body, -1, announced if announced >= 0 else -1 - p
            p += 1
            joint = 0
            while joint < joints:
                plain, p = plain_rows(text, p, JOINT_COLUMNS, xyz[total, joint:])
                joint, line = joint + plain, line + plain
                if joint == joints:
                    break
                line += 1
                if p >= size:
                    return ENDS_EARLY, line, frame, body, joint, 0
                code, p, detail = _joint_row(text, p, xyz[total, joint])
                if code != OK:
                    return code, line, frame, body, joint, detail
                joint, p = joint + 1, p + 1
            total += 1
    while p < size:
        if text[p] == 10:
            line += 1
        elif _KIND[text[p]] != BLANK:
            return TRAILING, line + 1, frames, 0, 0, p
        p += 1
    return OK, line, frames, 0, 0, total


def frame_count(text: np.ndarray) -> int:
    """Return the number of frames that the first line announces, or -1."""
    return int(_lone_integer(text, 0)[0])
