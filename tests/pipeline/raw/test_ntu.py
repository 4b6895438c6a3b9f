"""The `.skeleton` reader against a plain line-by-line reader, and every kind of damage."""

import contextlib
import ctypes
import hashlib
import mmap
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import RawError
from skelpipe.raw import ntu_scan, wide_reads
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.source import TextBuffer


def as_text(content: str | bytes) -> np.ndarray:
    data = content.encode() if isinstance(content, str) else content
    return np.frombuffer(data + b"\n", np.uint8)


def read_plainly(path: Path) -> tuple[list[int], list[int], list[list[float]]]:
    """Counts, ids and positions as Python's own int and float read them."""
    lines = iter(path.read_text().splitlines())
    counts, ids, positions = [], [], []
    for _ in range(int(next(lines))):
        counts.append(int(next(lines)))
        for _ in range(counts[-1]):
            ids.append(int(next(lines).split()[0]))
            for _ in range(int(next(lines))):
                positions.append([float(value) for value in next(lines).split()[:3]])
    return counts, ids, positions


def two_frames(skeleton_text: Callable[..., str], moving_bodies: Callable[..., list], **kwargs: str) -> str:
    return skeleton_text(moving_bodies(0, frames=2), **kwargs)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_equals_plain_reading_bit_identically(tmp_path, skeleton_text, moving_bodies, end) -> None:
    frames = moving_bodies(1, frames=30, bodies=3)
    frames[4], frames[5], frames[9] = [], frames[5][:1], frames[9][:2]
    path = tmp_path / "S001C001P001R001A001.skeleton"
    path.write_bytes(skeleton_text(frames, end).encode())
    recording = read_skeleton(TextBuffer().read(str(path)), "x")
    counts, ids, positions = read_plainly(path)
    assert recording.counts.tolist() == counts
    assert recording.ids.tolist() == ids  # beyond 2^53: lost if they ever were floating point
    assert any(float(i) != i or int(float(i)) != i for i in ids)
    assert recording.xyz.reshape(-1, 3).tolist() == positions
    assert recording.bodies == 3
    assert recording.frames == 30


def test_equals_plain_reading_on_real_recordings(shared: Path) -> None:
    for path in sorted((shared / "data" / "ntu").glob("*.skeleton")):
        recording = read_skeleton(TextBuffer().read(str(path)), path.name)
        counts, ids, positions = read_plainly(path)
        assert recording.counts.tolist() == counts
        assert recording.ids.tolist() == ids
        assert recording.xyz.reshape(-1, 3).tolist() == positions


NUMBERS = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: f"{x:.7g}"),
    st.floats(-1e30, 1e30, allow_nan=False).map(lambda x: f"{x:.15g}"),
    st.integers(-(10**12), 10**12).map(str),
    st.sampled_from(["0", "-0", "+1.5", ".5", "5.", "1e-7", "1E+05", "00012.50", "0.000000000000000000001234"]),
)


@given(numbers=st.lists(NUMBERS, min_size=75, max_size=75))
def test_numbers_are_read_as_python_reads_them(numbers: list[str]) -> None:
    rows = [" ".join(numbers[3 * v : 3 * v + 3]) + " 0 0 0 0 0 0 0 0 2" for v in range(25)]
    text = "1\n1\n7 0 0 0 0 0 0 0 0 2\n25\n" + "\n".join(rows) + "\n"
    got = read_skeleton(as_text(text), "x").xyz.ravel()
    wanted = np.array([float(number) for number in numbers])
    assert np.all(np.abs(got - wanted) <= 2 * np.spacing(np.abs(wanted)))


def damage(text: str, line: int, change: Callable[[list[str]], list[str]]) -> str:
    """Change the columns of one line (counted from 1)."""
    lines = text.split("\n")
    lines[line - 1] = " ".join(change(lines[line - 1].split(" ")))
    return "\n".join(lines)


# In a file of one body per frame: line 2 bodies, 3 body, 4 joint count, 5..29 joints of frame 1, then 30, 31, …
DAMAGES = {
    "a joint row of 11 columns": (7, lambda c: c[:-1], r":7: frame 1, body 1, joint 3: 12 columns .* found 11"),
    "a joint row of 13 columns": (
        40,
        lambda c: [*c, "1"],
        r":40: frame 2, body 1, joint 8: 12 columns .* found 13",
    ),
    "a joint row of 2 columns": (7, lambda c: c[:2], r":7: .* 12 columns are expected, found 2"),
    "a body row of 9 columns": (3, lambda c: c[1:], r":3: frame 1, body 1: 10 columns are expected, found 9"),
    "a joint count of 24": (
        32,
        lambda c: ["24"],
        r":32: frame 2, body 1: 25 joints are expected, found 24 joints",
    ),
    "a joint count that is no number": (32, lambda c: ["many"], r":32: .* 25 joints are expected, found 'many'"),
    "a word for x": (9, lambda c: ["abc", *c[1:]], r":9: frame 1, body 1, joint 5: 'abc' is not a number"),
    "a word in an unused column": (9, lambda c: [*c[:5], "left", *c[6:]], r":9: .* 'left' is not a number"),
    "a sign alone": (9, lambda c: [*c[:5], "-", *c[6:]], r":9: .* '-' is not a number"),
    "no spelling of NaN": (9, lambda c: [c[0], "NaNa", *c[2:]], r":9: .* 'NaNa' is not a number"),
    "an infinity in letters": (9, lambda c: ["-1.#INF", *c[1:]], r":9: .* '-1.#INF' is not a finite number"),
    "infinity for z": (9, lambda c: [*c[:2], "1e999", *c[3:]], r":9: .* '1e999' is not a finite number"),
    "a broken exponent": (9, lambda c: ["1e", *c[1:]], r":9: .* '1e' is not a number"),
    "two numbers run together": (9, lambda c: ["1.2.3", *c[1:]], r":9: .* '1.2.3' is not a number"),
    "two points": (9, lambda c: ["..5", *c[1:]], r":9: .* '..5' is not a number"),
    "a letter for a digit": (9, lambda c: ["e.5", *c[1:]], r":9: .* 'e.5' is not a number"),
    "a sign within": (9, lambda c: [*c[:2], "1.5-5", *c[3:]], r":9: .* '1.5-5' is not a number"),
    "a body id with a point": (3, lambda c: ["7.2e16", *c[1:]], r":3: frame 1, body 1: the body id .* '7.2e16'"),
    "an id too long for 64 bits": (3, lambda c: ["9" * 25, *c[1:]], r":3: .* the body id is expected"),
    "a body count that is no number": (
        2,
        lambda c: ["one"],
        r":2: frame 1: the number of bodies is expected, found 'one'",
    ),
    "an empty line": (2, lambda c: [], r":2: frame 1: the number of bodies is expected, found an empty line"),
    "a frame count that is no number": (1, lambda c: ["x"], r":1: the number of frames is expected, found 'x'"),
    "zero frames": (1, lambda c: ["0"], r":1: the recording has no frames"),
    "an absurd frame count": (1, lambda c: ["99999999999"], r":1: 99999999999 frames are announced"),
    "one frame too many announced": (1, lambda c: ["3"], r":58: frame 3: the file ends before the last of the 3"),
    "one frame too few announced": (1, lambda c: ["1"], r":30: text follows the last of the 1 frames"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_reported_with_file_and_line(skeleton_text, moving_bodies, case: str) -> None:
    line, change, message = DAMAGES[case]
    text = damage(two_frames(skeleton_text, moving_bodies), line, change)
    with pytest.raises(RawError, match=r"^S1\.skeleton" + message):
        read_skeleton(as_text(text), "S1.skeleton")


def test_missing_joint_row_says_how_many_follow(skeleton_text, moving_bodies) -> None:
    lines = two_frames(skeleton_text, moving_bodies).split("\n")
    del lines[28]  # the last joint of frame 1
    with pytest.raises(RawError, match=r"S1:29: frame 1 announces 25 joints, 24 follow"):
        read_skeleton(as_text("\n".join(lines)), "S1")


def test_empty_file() -> None:
    with pytest.raises(RawError, match="S1: the file is empty"):
        read_skeleton(as_text(""), "S1")


def test_every_truncation_is_refused(skeleton_text, moving_bodies) -> None:
    """A file cut off anywhere before its last line end is refused, and no byte behind its end is read."""
    whole = two_frames(skeleton_text, moving_bodies).encode().rstrip(b"\n")
    assert read_skeleton(as_text(whole), "x").frames == 2
    for size in range(len(whole)):
        with pytest.raises(RawError):
            read_skeleton(as_text(whole[:size]), "x")


@pytest.mark.parametrize(
    "word", ["NaN", "-Infinity", "inf", "-1.#IND", "1.#QNAN", "-1.#INF", "-nan(ind)", "1.#INF00"]
)
def test_unused_columns_may_hold_what_kinect_writes_off_the_image(skeleton_text, moving_bodies, word) -> None:
    text = two_frames(skeleton_text, moving_bodies)
    odd = damage(text, 9, lambda c: [*c[:3], word, *c[4:]])
    assert np.array_equal(read_skeleton(as_text(odd), "x").xyz, read_skeleton(as_text(text), "x").xyz)


@given(data=st.binary(max_size=300))
def test_noise_never_crashes(data: bytes) -> None:
    with pytest.raises(RawError, match="^noise"):
        read_skeleton(as_text(b"2\n1\n" + data), "noise")


def test_blank_tails_and_tabs_are_read(skeleton_text, moving_bodies) -> None:
    text = two_frames(skeleton_text, moving_bodies)
    spaced = text.replace("\n", " \t\n").replace(" 250.1", "\t 250.1") + "\n\n"
    assert np.array_equal(read_skeleton(as_text(spaced), "x").xyz, read_skeleton(as_text(text), "x").xyz)


def read_strictly(data: bytes) -> list[bytes]:
    """The words of x, y and z by the rules on lines and words, or ValueError with the line that breaks them."""
    lines = [re.split(rb"[ \t\r]+", line.strip(b" \t\r")) for line in data.split(b"\n")]
    lines_read = 0

    def row(*patterns: bytes) -> list[bytes]:
        nonlocal lines_read
        lines_read += 1
        words = lines[lines_read - 1] if lines_read <= len(lines) else []
        if len(words) != len(patterns) or not all(map(re.fullmatch, patterns, words)):
            raise ValueError(lines_read)
        return words

    count = rb"[0-9]{1,18}"
    number = rb"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
    unused = rb"[-+.eE0-9]*[0-9][-+.eE0-9]*|[-+]?(1\.#)?(?i:nan|ind|inf|qnan|infinity)"
    positions = []
    frames = int(row(count)[0])
    if not 0 < frames <= len(data) // 2:
        raise ValueError(1)
    for _ in range(frames):
        for _ in range(int(row(count)[0])):
            row(count, *[unused] * 9)
            row(rb"0*25")
            for _ in range(25):
                positions += row(*[number] * 3, *[unused] * 9)[:3]
                if not np.all(np.isfinite([float(word) for word in positions[-3:]])):
                    raise ValueError(lines_read)
    while lines_read < len(lines):
        row(rb"")
    return positions


METRES = st.from_regex(r"-?[0-9]\.[0-9]{1,16}", fullmatch=True, alphabet="-.0123456789")
ODD = ["1.5e3", "12.5", "1.e2", "-.5", "+.5", "e.5", "..5", "1.5-5", "1.5e", "1.12345678901234567", "-0.00", "1:5"]
USED = st.one_of(*[METRES] * 12, NUMBERS, st.sampled_from(ODD))
UNUSED = METRES | NUMBERS | st.sampled_from(["0", "2", "NaN", "-1.#IND", "Infinity", "5.", "123456789" * 9])
BLANKS = st.sampled_from([" "] * 12 + ["  ", "\t", " \t "])
ROWS = st.tuples(*[USED] * 3, *[UNUSED] * 9, *[BLANKS] * 11, st.sampled_from(["", "", "", "", " ", "\t"]))
BYTES = list(b"0123456789+-.eE \t\r\n#naf,:/x\0\x80\xb0\xff\x0b\x1f")
CHANGES = st.tuples(st.floats(0, 1), st.integers(0, 2), st.sampled_from(BYTES))


@given(
    rows=st.lists(ROWS, min_size=1, max_size=5),
    bodies=st.integers(1, 2),
    end=st.sampled_from(["\n", "\r\n"]),
    tail=st.sampled_from(["", "\n", "\n" + 70 * " "]),
    changes=st.one_of(st.just([]), st.lists(CHANGES, max_size=3)),
)
def test_any_text_is_read_or_refused(rows: list, bodies: int, end: str, tail: str, changes: list) -> None:
    spelled = [row[-1] + "".join(map(str.__add__, row, [*row[12:23], row[-1]])) for row in rows]
    body = ["72057594037932587 0 1 1 0 0 0 0.01 -0.02 2", "25", *(spelled * 25)[:25]]
    data = bytearray((end.join(["1", str(bodies), *body * bodies]) + tail).encode())
    for place, cut, byte in changes:
        start = int(place * len(data))
        data[start : start + cut] = bytes([byte])
    text = as_text(bytes(data))
    try:
        words = read_strictly(bytes(data))
    except ValueError as fault:
        with pytest.raises(RawError, match=rf"^x:{fault}:"):
            read_skeleton(text, "x")
        return
    got, wanted = read_skeleton(text, "x").xyz.ravel(), np.array([float(word) for word in words])
    exact = [len(word) <= 16 and b"e" not in word.lower() for word in words]  # 15 digits and a point
    assert got[exact].tolist() == wanted[exact].tolist()
    assert np.array_equal(np.signbit(got), np.signbit(wanted))
    assert np.all(np.abs(got - wanted) <= 2 * np.spacing(np.abs(wanted)))


@pytest.mark.parametrize("case", ["a sign alone", "a word in an unused column", "a joint row of 11 columns"])
def test_damage_is_found_at_every_offset_in_a_wide_read(skeleton_text, moving_bodies, case: str) -> None:
    line, change, message = DAMAGES[case]
    text = damage(two_frames(skeleton_text, moving_bodies), line, change)
    for pad in range(wide_reads.BLOCK):
        moved = damage(text, line, lambda c, pad=pad: [*c[:3], pad * " " + c[3], *c[4:]])
        with pytest.raises(RawError, match=r"^S1" + message):
            read_skeleton(as_text(moved), "S1")


def test_nothing_beyond_the_end_is_read(skeleton_text, moving_bodies) -> None:
    """With the page after the text out of bounds, reading one byte too many would end the process."""
    whole = two_frames(skeleton_text, moving_bodies).encode()
    room = 2 * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, room + mmap.PAGESIZE), np.uint8)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(memory.ctypes.data + room), mmap.PAGESIZE, 0) == 0
    for size in range(1, len(whole)):
        memory[room - size - 1 : room] = as_text(whole[:size])
        with contextlib.suppress(RawError):
            read_skeleton(memory[room - size - 1 : room], "x")
    memory[room - 64 : room] = as_text(3 * b"-1.1234567890123456 " + b"   ")
    assert wide_reads.plain_rows(memory[room - 64 : room], 0, 3, np.empty((1, 3))) == (0, 0)


def test_compiled_code_follows_its_sources() -> None:
    """numba's cache looks only at the scanner's own file, so that file contains the digest of the one it calls."""
    source = Path(wide_reads.__file__).read_text()
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == ntu_scan.WIDE_READS_DIGEST, (
        "set WIDE_READS_DIGEST to this digest"
    )
