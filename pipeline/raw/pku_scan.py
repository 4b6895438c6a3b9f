"""The byte scanner of `skelpipe.raw.pku`: from lines of decimal numbers to an array, in one pass, without copies.

numba compiles it once and caches it on disk. It does no I/O and builds no messages: it returns a code and a
position. A number becomes the nearest double. Where arithmetic in doubles cannot decide which double that is (more
than 19 digits, exponents beyond 22, near ties), the scanner stops; its caller reads that number and continues.
"""

import numpy as np

from skelpipe.kernels import njit
from skelpipe.raw.wide_reads import plain_decimal

__all__ = ["BAD_COLUMNS", "BAD_NUMBER", "EMPTY_LINE", "OK", "UNDECIDED", "scan"]

OK, UNDECIDED, BAD_NUMBER, BAD_COLUMNS, EMPTY_LINE = range(5)

# The digest of wide_reads.py. Its code is compiled into the functions of this file, but numba's cache looks only
# at this file: the digest changes it when wide_reads.py changes.
WIDE_READS_DIGEST = "ffae73aea2a6bfd2"

DIGIT, OTHER, BLANK, LINE_END = 1, 2, 4, 8
_KIND = np.full(256, OTHER, np.uint8)
_KIND[[ord(c) for c in "0123456789"]] = DIGIT
_KIND[[ord(c) for c in " \t\r"]] = BLANK
_KIND[ord("\n")] = LINE_END
NEWLINE, SPACE, PLUS, MINUS, POINT, ZERO, CAPITAL_E, SMALL_E = b"\n +-.0Ee"

MOST_DIGITS = 19  # an int64 holds so many, or wraps around once and becomes negative
EXACT_WIDTH = 16  # bytes of d.ddd: at most 15 digits, which a double holds; one division rounds once
EXACT_INTEGERS = 2**53  # a double holds all up to this
EXACT_POWERS = 22  # a double holds 10**k up to this k
_POWERS = 10.0 ** np.arange(EXACT_POWERS + 1)
SPLITTER = 2.0**27 + 1  # splits a double into two of 26 bits
LOW_BITS = 2**11 - 1  # those of 63 bits that a double may not hold
MARGIN = 1 + 1e-7


@njit(cache=True, nogil=True, error_model="numpy")
def _quotient(mantissa: int, power: float) -> tuple[float, bool]:
    """Divide an integer of up to 63 bits by an exact power of ten; return the quotient and
    whether it is the nearest double.

    The quotient of the high bits is corrected by its remainder, which Dekker's product gives exactly
    (Numer. Math. 18, 1971). The sum is the nearest double unless its rounding error is within 1e-7 of half a
    unit in the last place, a near tie.
    """
    high, low = float(mantissa & ~LOW_BITS), float(mantissa & LOW_BITS)
    first = high / power
    t = SPLITTER * first
    a = t - (t - first)
    b = first - a
    t = SPLITTER * power
    c = t - (t - power)
    d = power - c
    product = first * power
    product_error = ((a * c - product) + a * d + b * c) + b * d
    more = (((high - product) - product_error) + low) / power
    value = first + more
    error = (first - value) + more
    return value, value + error * MARGIN == value


@njit(cache=True, nogil=True, error_model="numpy")
def _any_decimal(text: np.ndarray, p: int) -> tuple[int, float, int]:
    """Read a decimal number in any spelling at p; return OK, UNDECIDED or BAD_NUMBER, its value, and its end."""
    negative = text[p] == MINUS
    if negative or text[p] == PLUS:
        p += 1
    most = MOST_DIGITS + (text[p] == ZERO)
    mantissa = digits = exponent = 0
    while _KIND[text[p]] == DIGIT:
        mantissa = mantissa * 10 + (text[p] - ZERO)
        digits += 1
        p += 1
    if text[p] == POINT:
        p += 1
        while _KIND[text[p]] == DIGIT:
            mantissa = mantissa * 10 + (text[p] - ZERO)
            digits += 1
            exponent -= 1
            p += 1
    if digits == 0:
        return BAD_NUMBER, 0.0, p
    if text[p] in (SMALL_E, CAPITAL_E):
        p += 1
        below = text[p] == MINUS
        if below or text[p] == PLUS:
            p += 1
        first, power = p, 0
        while _KIND[text[p]] == DIGIT:
            power = min(power * 10 + (text[p] - ZERO), 9999)
            p += 1
        if p == first:
            return BAD_NUMBER, 0.0, p
        exponent += -power if below else power
    if _KIND[text[p]] < BLANK:
        return BAD_NUMBER, 0.0, p
    if digits > most or mantissa < 0 or abs(exponent) > EXACT_POWERS:
        return UNDECIDED, 0.0, p
    nearest = True
    if mantissa <= EXACT_INTEGERS:
        value = float(mantissa)
        value = value / _POWERS[-exponent] if exponent < 0 else value * _POWERS[exponent]
    elif exponent <= 0:
        value, nearest = _quotient(mantissa, _POWERS[-exponent])
    else:
        return UNDECIDED, 0.0, p
    return (OK if nearest else UNDECIDED), (-value if negative else value), p


@njit(cache=True, nogil=True, inline="always")
def _decimal(text: np.ndarray, p: int) -> tuple[int, float, int]:
    """Like `_any_decimal`, but faster for the zeros of an absent body and for positions in metres."""
    if text[p] == ZERO and text[p + 1] == SPACE:
        return OK, 0.0, p + 1
    value, end = plain_decimal(text, p)
    if p < end <= p + EXACT_WIDTH:
        return OK, value, end
    return _any_decimal(text, p)


@njit(cache=True, nogil=True)
def _columns(text: np.ndarray, p: int) -> int:
    """Count the words of the line that contains p."""
    while p > 0 and text[p - 1] != NEWLINE:
        p -= 1
    words, inside = 0, False
    while text[p] != NEWLINE:
        word = _KIND[text[p]] < BLANK
        words += word and not inside
        inside = word
        p += 1
    return words


@njit(cache=True, nogil=True)
def _nothing_follows(text: np.ndarray, p: int) -> bool:
    while p < len(text) and _KIND[text[p]] >= BLANK:
        p += 1
    return p == len(text)


@njit(cache=True, nogil=True)
def scan(text: np.ndarray, values: np.ndarray, row: int, column: int, p: int) -> tuple[int, int, int, int]:
    """Scan the bytes of `text` from p on into `values` float64 [rows,columns].

    `text` uint8 [n+1] ends with a newline, `values` has `n // (2 * columns) + 1` rows; a scan starts at row,
    column and p = 0. Returns (code, row, column, p), by code:
    OK, `row` rows were read; BAD_COLUMNS, the row has `column` words; BAD_NUMBER, the word at p is no number;
    EMPTY_LINE, an empty line starts at p, and text follows it; UNDECIDED, the caller must set
    `values[row, column]` to the number at p and call again with the next column and the number's end as p.
    """
    columns = values.shape[1]
    while p < len(text):
        byte = text[p]
        if _KIND[byte] == BLANK:
            p += 1
        elif byte != NEWLINE:
            if column == columns:
                return BAD_COLUMNS, row, _columns(text, p), p
            code, value, end = _decimal(text, p)
            if code != OK:
                found = columns if code == UNDECIDED else _columns(text, p)
                return (code, row, column, p) if found == columns else (BAD_COLUMNS, row, found, p)
            values[row, column] = value
            column += 1
            p = end
        elif column == columns:
            row, column = row + 1, 0
            p += 1
        elif column > 0:
            return BAD_COLUMNS, row, column, p
        else:
            return (OK if _nothing_follows(text, p) else EMPTY_LINE), row, 0, p
    return OK, row, 0, p
