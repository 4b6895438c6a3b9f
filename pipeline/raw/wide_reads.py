"""Fast paths of the byte scanners: read the usual lines of a raw file many bytes at once.

When text is read byte by byte, the processor mispredicts a branch at the end of every word. Here a few vector
instructions classify 64 bytes, and three multiplications convert 8 digits (SWAR: several values in one register).
This works for plain text only. For anything unusual, and near the end of the array, these functions report that
they cannot decide, and the scanner reads byte by byte. No byte outside the array is read. The first byte of a word
is taken as the lowest, which is the byte order of every processor that numba compiles for.

numba's cache does not see that `ntu_scan` and `pku_scan` call this file: after a change here, set a new
`WIDE_READS_DIGEST` in both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, njit, types
from numba.np.arrayobj import make_array

__all__ = ["clean_columns", "plain_rows"]

Emitter = tuple[Any, Callable[..., Any]]
intrinsic: Any = extending.intrinsic  # its type would require that calls pass the compiler's context

BLOCK = 64  # bytes classified at once: one bit of an int64 for each
DECIMAL_ROOM = 27  # a sign, a digit, a point, 16 digits and 8 bytes read after them
TAB, NEWLINE, RETURN, SPACE, MINUS, POINT, ZERO = b"\t\n\r -.0"
_TENS = 10 ** np.arange(17, dtype=np.int64)
# Indexed by the sign: a branch on it is often mispredicted.
_SCALES = np.multiply.outer([1.0, -1.0], 10.0 ** np.arange(17))


def _wide_read(context: Any, builder: Any, array_type: Any, args: Any, kind: ir.Type) -> Any:
    """Emit an unaligned load of `kind` from args = (uint8 array, position)."""
    data = make_array(array_type)(context, builder, args[0]).data
    address = builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer())
    return builder.load(address, align=1)


@intrinsic
def _eight_bytes(_context: Any, text: Any, _p: Any) -> Emitter:
    """Return text[p:p+8] as an int64; the first byte is the lowest."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _wide_read(context, builder, signature.args[0], args, ir.IntType(64))

    return types.int64(text, types.intp), emit


@intrinsic
def _classes(_context: Any, text: Any, _p: Any) -> Emitter:
    """Return masks of text[p:p+64]: blanks, line ends, signs (+-.eE), other non-digits; bit i is byte p+i."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), BLOCK)
        block = _wide_read(context, builder, signature.args[0], args, vector)

        def everywhere(byte: int) -> ir.Constant:
            return ir.Constant(vector, [byte] * BLOCK)

        def any_of(values: bytes) -> Any:
            found = builder.icmp_unsigned("==", block, everywhere(values[0]))
            for byte in values[1:]:
                found = builder.or_(found, builder.icmp_unsigned("==", block, everywhere(byte)))
            return found

        digit = builder.icmp_unsigned("<", builder.sub(block, everywhere(ZERO)), everywhere(10))
        blank, line_end, sign = any_of(b" \t\r"), any_of(b"\n"), any_of(b"+-.eE")
        foreign = builder.not_(builder.or_(builder.or_(digit, blank), builder.or_(line_end, sign)))
        masks = [builder.bitcast(found, ir.IntType(64)) for found in (blank, line_end, sign, foreign)]
        return context.make_tuple(builder, signature.return_type, masks)

    return types.UniTuple(types.int64, 4)(text, types.intp), emit


@intrinsic
def _ones(_context: Any, _mask: Any) -> Emitter:
    """Return how many bits of an int64 are set."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.int64), emit


@njit(cache=True, forceinline=True)
def _first(mask: int) -> int:
    """Return the position of the lowest bit set, or 64 if none is set."""
    return _ones((mask - 1) & ~mask)


@njit(cache=True, forceinline=True)
def clean_columns(text: np.ndarray, p: int) -> tuple[int, int]:
    """Count the columns of the line that starts at p; return the count and the line's end.

    Returns -1 and p unless every column consists of digits and signs and ends in a digit.
    """
    columns, q = 0, p
    in_word = after_sign = 0  # whether the byte before this block belongs to a word, is a sign
    while q + BLOCK <= len(text):
        blank, line_end, sign, foreign = _classes(text, q)
        line = line_end ^ (line_end - 1)  # the bytes up to the line end, or all
        word = ~(blank | line_end)
        if (foreign | (~word & (sign << 1 | after_sign))) & line:
            return -1, p
        columns += _ones(word & ~(word << 1 | in_word) & line)
        if line_end:
            return columns, q + _first(line_end)
        in_word, after_sign = int(word < 0), int(sign < 0)
        q += BLOCK
    return -1, p


@njit(cache=True, forceinline=True)
def _digits(text: np.ndarray, p: int) -> tuple[int, int]:
    """Return the value of the up to 8 digits at p, and their number."""
    values = _eight_bytes(text, p) ^ 0x3030303030303030  # a digit becomes 0..9, any other byte more
    beyond = (values | (values + 0x7676767676767676)) & ~0x7F7F7F7F7F7F7F7F
    count = _first(beyond) >> 3
    half = 32 - 4 * count  # shifted twice, as a shift by 64 is undefined
    values = values << half << half  # puts zeros before the digits and drops what follows them
    values = (values * 10 + (values >> 8)) & 0x00FF00FF00FF00FF  # pairs of digits, then fours, then eight
    values = (values * 100 + (values >> 16)) & 0x0000FFFF0000FFFF
    return (values * 10000 + (values >> 32)) & 0xFFFFFFFF, count


@njit(cache=True, forceinline=True, error_model="numpy")
def plain_decimal(text: np.ndarray, p: int) -> tuple[float, int]:
    """Read d.ddd or -d.ddd at p (one digit, a point, up to 16 digits), the usual form of positions in metres.

    Returns the value, rounded as by the general reader, and its end, or 0 and p for any other form.
    """
    if p + DECIMAL_ROOM > len(text):
        return 0.0, p
    head = _eight_bytes(text, p)
    negative = int((head & 0xFF) == MINUS)
    head >>= 8 * negative
    whole, point = (head & 0xFF) - ZERO, (head >> 8) & 0xFF
    first = p + negative + 2
    mantissa, places = _digits(text, first)
    mantissa += whole * _TENS[places]
    if places == 8:
        more, count = _digits(text, first + 8)
        mantissa = mantissa * _TENS[count] + more
        places += count
    end = first + places
    after = _eight_bytes(text, end) & 0xFF
    ends = (after == SPACE) | (after == NEWLINE) | (after == RETURN) | (after == TAB)
    if not (ends & (whole >= 0) & (whole <= 9) & (point == POINT)):  # `&`, not `and`: one branch instead of four
        return 0.0, p
    return float(mantissa) / _SCALES[negative, places], end


@njit(cache=True)
def plain_rows(text: np.ndarray, p: int, columns: int, positions: np.ndarray) -> tuple[int, int]:
    """Read lines of `columns` columns, which start with x y z, from p on into `positions` float64 [n,3].

    Stops at the first line that is not plain. Returns the number of lines read and the start of the next one.
    """
    for row in range(len(positions)):
        found, line_end = clean_columns(text, p)
        if found != columns:
            return row, p
        start = p
        for axis in range(3):
            value, end = plain_decimal(text, start)
            if end == start:
                return row, p
            positions[row, axis] = value
            start = end + 1
        p = line_end + 1
    return len(positions), p
