"""The reader of PKU-MMD skeleton text against Python's `float` and numpy's `loadtxt`, and every kind of damage."""

import hashlib
import io
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import RawError
from skelpipe.raw import pku_scan, wide_reads
from skelpipe.raw.pku import read_pku

COLUMNS = 150


def as_text(content: str | bytes) -> np.ndarray:
    data = content.encode() if isinstance(content, str) else content
    return np.frombuffer(data + b"\n", np.uint8)


def random_lines(frames: int, seed: int = 0, spelling: str = ".6f") -> list[str]:
    """The lines of a random recording of two bodies."""
    values = np.random.default_rng(seed).normal(size=(frames, COLUMNS))
    return [" ".join(format(value, spelling) for value in row) for row in values]


def read_plainly(content: str) -> tuple[list[int], list[int], list[list[float]]]:
    """Counts, ids and the bodies' values, read line by line."""
    counts, ids, bodies = [], [], []
    for line in content.split("\n"):
        if not line.strip():
            continue
        values = [float(word) for word in line.split()]
        first, second = values[:75], values[75:]
        if sum(second) != 0:
            counts.append(2)
        else:
            counts.append(int(any(value != 0 for value in first)))
        ids += range(counts[-1])
        bodies += [first, second][: counts[-1]]
    return counts, ids, bodies


def check(content: str) -> None:
    recording = read_pku(as_text(content), "x")
    counts, ids, bodies = read_plainly(content)
    assert recording.counts.tolist() == counts
    assert recording.ids.tolist() == ids
    assert recording.xyz.reshape(-1, 75).tolist() == bodies
    assert (recording.counts.dtype, recording.ids.dtype, recording.xyz.dtype) == (np.int32, np.int64, np.float64)
    assert recording.xyz.shape == (len(ids), 25, 3)


@pytest.mark.parametrize("spelling", [".6f", ".5g", ".9g", ".17g", ".18e", ".1f"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\t\r\n", "\n\n \n\r\n"])
def test_equals_plain_reading_bit_identically(spelling: str, end: str) -> None:
    inner = end if len(end) < 4 else "\n"
    check(inner.join(random_lines(20, spelling=spelling)) + end)


def test_equals_numpys_own_reading() -> None:
    content = "\n".join(random_lines(50, seed=1, spelling=".7g"))
    wanted = np.loadtxt(io.StringIO(content)).reshape(-1, 25, 3)
    assert np.array_equal(read_pku(as_text(content), "x").xyz, wanted)


def test_blanks_may_lead_and_repeat_and_the_last_line_needs_no_end() -> None:
    check("\n".join("  " + line.replace(" ", " \t ") for line in random_lines(3)))


ZEROS = " ".join(["0"] * 75)
LONG_ZEROS = " ".join(["-0.000000"] * 75)
BODY = " ".join(str(v / 8) for v in range(1, 76))
TO_ZERO = " ".join(["0.5", "-0.5", "0", *["0"] * 72])  # sums to zero, and is not zero


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [
        (BODY, BODY, 2),
        (BODY, ZEROS, 1),
        (BODY, LONG_ZEROS, 1),
        (ZEROS, LONG_ZEROS, 0),
        (ZEROS, BODY, 2),
        (BODY, TO_ZERO, 1),
        (TO_ZERO, ZEROS, 1),
        (ZEROS, TO_ZERO, 0),
        (BODY, ZEROS[:-1] + "1e-300", 2),
        (ZEROS, " ".join(["1e308"] * 75), 2),
    ],
)
def test_which_bodies_are_present(first: str, second: str, count: int) -> None:
    content = f"{BODY} {BODY}\n{first} {second}\n{BODY} {ZEROS}\n"
    assert read_pku(as_text(content), "x").counts.tolist() == [2, count, 1]
    check(content)


def test_bodies_keep_their_slots() -> None:
    recording = read_pku(as_text(f"{ZEROS} {BODY}\n"), "x")
    assert recording.ids.tolist() == [0, 1]
    assert not recording.xyz[0].any()
    assert recording.xyz[1].ravel().tolist() == [v / 8 for v in range(1, 76)]


def test_a_recording_without_any_body_keeps_its_frames() -> None:
    recording = read_pku(as_text(f"{ZEROS} {ZEROS}\n" * 4), "x")
    assert (recording.frames, recording.bodies, recording.xyz.shape) == (4, 0, (0, 25, 3))


def test_another_layout_has_other_columns() -> None:
    recording = read_pku(as_text("1 2 3 4 5 6 7 8 9 10 11 12\n" * 2), "x", joints=2)
    assert recording.xyz.tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]] * 2
    with pytest.raises(RawError, match="12 columns are expected, found 150"):
        read_pku(as_text(random_lines(1)[0]), "x", joints=2)


def between(low: float) -> str:
    """All digits of the decimal that lies exactly half way between a double and the next one."""
    return format((Decimal(low) + Decimal(math.nextafter(low, math.inf))) / 2, "f")


NUMBERS = st.one_of(
    st.floats(-10, 10).map(lambda x: f"{x:.6f}"),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-10, 10).map(repr),
    st.floats(1e-4, 10).map(lambda x: f"{x:.18f}"),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: f"{x:.18e}"),
    st.floats(0.5, 8.0).map(between),
    st.floats(0.5, 8.0).map(lambda x: between(x)[:20]),
    st.integers(-(10**25), 10**25).map(str),
    st.integers(9 * 10**18, 10**19 - 1).map(str),
    st.from_regex(r"\A[+-]?([0-9]{1,20}\.?|[0-9]{0,3}\.[0-9]{1,20})([eE][+-]?[0-9]{1,2})?\Z").filter(str.isascii),
    st.sampled_from(["0", "-0", "+1.5", ".5", "5.", "-.5e1", "1e-7", "1E+05", "00012.50", "0.1e-400", "0" * 40]),
    st.sampled_from(["9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551616"]),
)


@given(numbers=st.lists(NUMBERS, min_size=11, max_size=11))
def test_every_number_is_read_as_python_reads_it(numbers: list[str]) -> None:
    words = [*numbers, "1e300"]  # the last makes the second body's sum other than zero
    got = read_pku(as_text(" ".join(words)), "x", joints=2).xyz
    assert got.tobytes() == np.array([float(word) for word in words]).tobytes()  # the sign of zero too


def test_many_random_numbers_of_17_to_19_digits() -> None:
    rng = np.random.default_rng(3)
    digits = rng.integers(10**16, 2**63, 30_000)
    places = rng.integers(0, 22, digits.size)
    words = [f"{d}e-{k}" for d, k in zip(digits.tolist(), places.tolist(), strict=True)]
    lines = [" ".join(words[i : i + COLUMNS]) for i in range(0, len(words), COLUMNS)]
    assert read_pku(as_text("\n".join(lines)), "x").xyz.ravel().tolist() == [float(word) for word in words]


@pytest.mark.parametrize("places", range(5))
@pytest.mark.parametrize("odd", [1, 3, 2**20 + 1])
def test_a_tie_is_left_to_the_caller(places: int, odd: int) -> None:
    """Half way between two doubles the quotient is undecided; next to it, it is right."""
    middle = (2**53 + odd) * 5**places
    assert not pku_scan._quotient(middle, 10.0**places)[1]
    words = [f"{middle + beside}e-{places}" for beside in (-3, -2, -1, 0, 1, 2, 3, 5**places, -(5**places))]
    got = read_pku(as_text(" ".join([*words, "1", "1", "1"])), "x", joints=2).xyz.ravel()[: len(words)]
    assert got.tolist() == [float(word) for word in words]


def change(line: int, column: int, word: str) -> Callable[[list[str]], list[str]]:
    """Replace a word; line and column are counted from 1."""

    def changed(lines: list[str]) -> list[str]:
        words = lines[line - 1].split()
        words[column - 1 : column] = word.split()
        return [*lines[: line - 1], " ".join(words), *lines[line:]]

    return changed


EXPECTED = "150 columns are expected, found"
DAMAGES = {
    "nothing": (lambda lines: [], r"^a\.txt: the file is empty$"),
    "blanks alone": (lambda lines: [" ", "\t\r", ""], r"^a\.txt: the file is empty$"),
    "149 columns": (change(2, 7, ""), rf"^a\.txt:2: frame 2: {EXPECTED} 149$"),
    "151 columns": (change(2, 7, "1 2"), rf"^a\.txt:2: frame 2: {EXPECTED} 151$"),
    "one column": (lambda lines: [lines[0], "5", *lines[2:]], rf"^a\.txt:2: frame 2: {EXPECTED} 1$"),
    "two lines in one": (
        lambda lines: [lines[0] + " " + lines[1], *lines[2:]],
        rf"^a\.txt:1: frame 1: {EXPECTED} 300$",
    ),
    "the last line short": (
        lambda lines: [*lines[:-1], " ".join(lines[-1].split()[:149]), "", " "],
        rf"^a\.txt:4: frame 4: {EXPECTED} 149 \(cut off in download\?\)$",
    ),
    "cut off behind a sign": (
        lambda lines: [*lines[:-1], " ".join(lines[-1].split()[:20]) + " -"],
        rf"^a\.txt:4: frame 4: {EXPECTED} 21 \(cut off in download\?\)$",
    ),
    "the last line long": (change(4, 7, "1 2"), rf"^a\.txt:4: frame 4: {EXPECTED} 151$"),
    "a word": (change(3, 5, "abc"), r"^a\.txt:3: frame 3, body 1, joint 2: 'abc' is not a number$"),
    "a word for the second body": (
        change(3, 150, "x"),
        r"^a\.txt:3: frame 3, body 2, joint 25: 'x' is not a number$",
    ),
    "a word in a line too long": (change(3, 5, "abc 1"), rf"^a\.txt:3: frame 3: {EXPECTED} 151$"),
    "a comma": (change(1, 1, "1,5"), r"^a\.txt:1: frame 1, body 1, joint 1: '1,5' is not a number$"),
    "an underscore": (change(1, 1, "1_5"), r"'1_5' is not a number$"),
    "a sign alone": (change(1, 1, "-"), r"'-' is not a number$"),
    "a point alone": (change(1, 1, "."), r"'\.' is not a number$"),
    "two points": (change(1, 1, "1.2.3"), r"'1\.2\.3' is not a number$"),
    "a broken exponent": (change(1, 1, "1e"), r"'1e' is not a number$"),
    "a sign within": (change(1, 1, "1.5-5"), r"'1\.5-5' is not a number$"),
    "hexadecimals": (change(1, 1, "0x10"), r"'0x10' is not a number$"),
    "Kinect's infinity": (change(1, 1, "1.#INF"), r"'1\.#INF' is not a finite number$"),
    "bytes of nothing": (change(1, 1, "\0\0"), r"'\\x00\\x00' is not a number$"),
    "a letter of other alphabets": (change(1, 1, "٣"), r"is not a number$"),
    "a long word": (change(1, 1, "z" * 5000), r"'z{40}' is not a number$"),
    "infinity": (change(2, 4, "-inf"), r"^a\.txt:2: frame 2, body 1, joint 2: '-inf' is not a finite number$"),
    "a number too large": (change(2, 4, "-1e999"), r"^a\.txt:2: .* joint 2: '-1e999' is not a finite number$"),
    "an empty line within": (
        lambda lines: [*lines[:2], "", *lines[2:]],
        r"^a\.txt:3: frame 3: the line is empty, and more follow$",
    ),
    "an empty first line": (lambda lines: [" \r", *lines], r"^a\.txt:1: frame 1: the line is empty"),
    "a label file": (lambda lines: ["7,1054,1162,2"], rf"{EXPECTED} 1 \(cut off in download\?\)$"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_reported_with_file_and_line(case: str) -> None:
    damage, message = DAMAGES[case]
    with pytest.raises(RawError, match=message):
        read_pku(as_text("\n".join(damage(random_lines(4)))), "a.txt")


@given(data=st.data())
def test_any_bytes_are_read_or_refused(data: st.DataObject) -> None:
    """A file with a byte replaced, or cut off anywhere, is read as Python would read it, or refused as damaged."""
    content = bytearray("\n".join(random_lines(2, spelling=".3g")).encode())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = read_pku(as_text(bytes(content)), "x")
    except RawError:
        return
    assert got.xyz.reshape(-1, 75).tolist() == read_plainly(content.decode())[2]


def test_compiled_code_follows_its_sources() -> None:
    source = Path(wide_reads.__file__).read_bytes()
    assert hashlib.sha256(source).hexdigest()[:16] == pku_scan.WIDE_READS_DIGEST, (
        "set WIDE_READS_DIGEST to this digest"
    )
