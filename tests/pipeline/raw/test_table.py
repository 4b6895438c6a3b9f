"""Tables of numbers: the delimiter is proven by the numbers, damage is named by line and column."""

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.raw.table import Table, read_table

NUMBERS = np.array([[0, 1.5, -2e-3], [1, 2.25, 7], [2, 0.125, 1e6]])


def read(content: str | bytes) -> Table:
    data = content if isinstance(content, bytes) else content.encode()
    return read_table(np.frombuffer(data + b"\n", np.uint8), "a.csv")


def rows(delimiter: str, end: str = "\n") -> str:
    return end.join(delimiter.join(f"{value:g}" for value in row) for row in NUMBERS)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " ", "   ", ", ", "; ", " \t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
@pytest.mark.parametrize("header", [(), ("frame", "x", "the y")])
def test_any_delimiter(delimiter: str, end: str, header: tuple[str, ...]) -> None:
    if header and not delimiter.strip():
        header = ("frame", "x", "y")
    first = delimiter.join(header) + end if header else ""
    table = read("\ufeff" + first + rows(delimiter, end) + end)
    np.testing.assert_array_equal(table.numbers, NUMBERS)
    assert table.header == (header or None)
    assert len(table.lines) == 3


def test_what_other_programs_write_for_nan_and_in_utf_16() -> None:
    text = "a,b\n1,1.#QNAN\n-1.#IND00,4\nnan(ind),-nan\n"
    expected = [[1, np.nan], [np.nan, 4], [np.nan, np.nan]]
    for content in (text.encode(), text.encode("utf-16"), b"\xfe\xff" + text.encode("utf-16-be")):
        got = read_table(np.frombuffer(content + b"\n", np.uint8), "x")
        np.testing.assert_array_equal(got.numbers, expected)


def test_empty_fields_and_names_of_nothing_are_nan() -> None:
    table = read("a,b,c\n1,,3\nnan,NA,-nan(0x1)\n4,null,None\n")
    np.testing.assert_array_equal(table.numbers, [[1, np.nan, 3], [np.nan] * 3, [4, np.nan, np.nan]])


def test_comments_and_quotes() -> None:
    table = read('# made by hand\n"x","y"\n1,2\n')
    assert table.header == ("x", "y")
    assert table.numbers.tolist() == [[1, 2]]
    assert table.lines.tolist() == [3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a\.csv: the file is empty"),
        ("# nothing\n", r"a\.csv: holds no row of numbers"),
        ("x,y\n", r"a\.csv.*"),
        ("1,2\n3,4,5\n", r"a\.csv:2: 2 columns by commas are expected, as in line 1, found 3"),
        ("1,2\n3,four\n", r"a\.csv:2, column 2: 'four' is no number"),
        ("x;y\n1,5;2,5\n", r"a\.csv:2: numbers with a decimal comma are not read"),
        ("1,2\n3,inf\n", r"a\.csv:2, column 2: .*not finite"),
        ("1,2\n3,1e999\n", r"a\.csv:2, column 2: .*not finite"),
        ("hello\n", r"a\.csv:1: a row of numbers is expected, found 'hello'"),
        (b"1,2\n" + bytes(4), r"a\.csv: holds 4 NUL bytes"),
        (b"1,2\n\xff,3\n", r"a\.csv: byte 5 is no UTF-8 text"),
        ("1 2\n" * 100 + "1 2 3\n", r"a\.csv:101: 2 columns are expected, found 3"),
        ("1 2\n" * 100 + "1 x\n", r"a\.csv:101, column 2: 'x' is no number"),
        ("1_0,2\n", r"a\.csv.*"),
    ],
)
def test_damage_is_named(content: str | bytes, message: str) -> None:
    with pytest.raises(RawError, match=f"^{message}") as caught:
        read(content)
    assert "\n" not in str(caught.value)
