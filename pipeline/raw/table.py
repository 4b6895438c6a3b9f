"""Text tables of numbers: lines and words, the delimiter that the numbers prove, a header if there is one."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.text import in_utf8, is_nan
from skelpipe.untrusted import described, shown

__all__ = ["Table", "lines_of", "numbers_of", "read_table", "text_of"]

MOST_BYTES = 1 << 28
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
NOT_FOUND = frozenset(("", "na", "n/a", "null", "none"))  # besides the C library's spellings of NaN
INFINITY = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", None: "spaces"}
DECIMAL_COMMA = re.compile(r"[0-9],[0-9]")
PROOF = 64  # lines that decide about the delimiter; all others must agree


@dataclass(frozen=True)
class Table:
    """`numbers` float64 [R,K], NaN for what is empty; `header` the K names, or None; `lines` int [R], from 1."""

    numbers: np.ndarray
    header: tuple[str, ...] | None
    lines: np.ndarray


def text_of(text: np.ndarray, name: str) -> str:
    """Return the text of a file, uint8 [n+1]; RawError for one that is empty, too large or no UTF-8 text."""
    if len(text) > MOST_BYTES:
        raise RawError(f"{name}: {len(text) - 1} bytes are more than the {MOST_BYTES} that are read as one table")
    content = in_utf8(bytes(text[:-1]), name)
    if not content.strip():
        raise RawError(f"{name}: the file is empty")
    if zeros := content.count(b"\0"):
        raise RawError(f"{name}: holds {zeros} NUL bytes: it is damaged, or no text in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RawError(f"{name}: byte {error.start + 1} is no UTF-8 text") from None


def lines_of(text: np.ndarray, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and words of every line that is not blank; words are separated by spaces."""
    for number, line in enumerate(text_of(text, name).splitlines(), 1):
        if words := line.split():
            yield number, words


def numbers_of(words: Sequence[str], where: str) -> list[float]:
    """Return words as numbers, NaN for what is empty or not a number by name; RawError for anything else."""
    values = []
    for column, word in enumerate(words, 1):
        value = _number(word)
        if value is None:
            raise RawError(f"{where}, column {column}: {described(word)} is no number")
        if value in (np.inf, -np.inf):
            raise RawError(f"{where}, column {column}: {shown(word, 40)} is not finite")
        values.append(value)
    return values


def _number(word: str) -> float | None:
    word = word.strip().strip('"')
    if NUMBER.fullmatch(word):
        return float(word)
    if word.lower() in NOT_FOUND or is_nan(word.encode()):
        return float("nan")
    return float("inf") if INFINITY.fullmatch(word) else None


def read_table(text: np.ndarray, name: str) -> Table:
    """Return the table in a file; blank lines and lines that begin with # are left out.

    The delimiter is the one (comma, semicolon, tab, spaces) by which all lines have the same number of columns and
    hold numbers only, but for the first line if it is a header. Raises RawError that names line and column.
    """
    rows = [
        (number, line)
        for number, line in enumerate(text_of(text, name).splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not rows:
        raise RawError(f"{name}: holds no row of numbers")
    delimiter, header = _proven(rows, name)
    body = rows[1:] if header else rows
    if not body:
        raise RawError(f"{name}: holds a header, but no row of numbers")
    columns = len(header or body[0][1].split(delimiter))
    return Table(_numbers(body, delimiter, columns, name), header, np.array([number for number, _ in body]))


def _proven(rows: Sequence[tuple[int, str]], name: str) -> tuple[str | None, tuple[str, ...] | None]:
    """Return the delimiter and the header."""
    first = rows[0][1]
    for delimiter in DELIMITERS:
        words = [line.split(delimiter) for _, line in rows[:PROOF]]
        columns = len(words[0])
        if columns < 2 or any(len(row) != columns for row in words):
            continue
        numeric = [all(_number(word) is not None for word in row) for row in words]
        if all(numeric[1:]) and (numeric[0] or len(rows) > 1):
            return delimiter, None if numeric[0] else tuple(word.strip().strip('"') for word in words[0])
    raise _unproven(rows, first, name)


def _unproven(rows: Sequence[tuple[int, str]], first: str, name: str) -> RawError:
    """Return what is wrong by the delimiter that cuts the first line into most columns."""
    if ";" in first and DECIMAL_COMMA.search(rows[-1][1]):
        return RawError(f"{name}:{rows[-1][0]}: numbers with a decimal comma are not read; write 1.5, not 1,5")
    delimiter = max(DELIMITERS, key=lambda one: len(first.split(one)))
    columns = len(first.split(delimiter))
    if columns < 2:
        return RawError(f"{name}:{rows[0][0]}: a row of numbers is expected, found {described(first.strip())}")
    for number, line in rows[:PROOF]:
        words = line.split(delimiter)
        if len(words) != columns:
            as_before = f"{columns} columns by {DELIMITERS[delimiter]} are expected, as in line {rows[0][0]}"
            return RawError(f"{name}:{number}: {as_before}, found {len(words)}")
        if number != rows[0][0]:
            try:
                numbers_of(words, f"{name}:{number}")
            except RawError as error:
                return error
    return RawError(f"{name}: holds no row of numbers")


def _numbers(rows: Sequence[tuple[int, str]], delimiter: str | None, columns: int, name: str) -> np.ndarray:
    try:
        numbers = np.loadtxt([line for _, line in rows], np.float64, delimiter=delimiter, comments=None, ndmin=2)
    except ValueError:  # something empty, or damage: read word by word
        numbers = np.empty((len(rows), columns))
        for row, (number, line) in enumerate(rows):
            words = line.split(delimiter)
            if len(words) != columns:
                raise RawError(f"{name}:{number}: {columns} columns are expected, found {len(words)}") from None
            numbers[row] = numbers_of(words, f"{name}:{number}")
    if (infinite := np.isinf(numbers)).any():
        row, column = np.argwhere(infinite)[0]
        raise RawError(f"{name}:{rows[row][0]}, column {column + 1}: the value is not finite")
    return numbers
