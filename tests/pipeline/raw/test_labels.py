"""The reader of PKU-MMD label files, every kind of damage, and how label files differ from skeleton files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import RawError
from skelpipe.raw.labels import Segment, looks_like_labels, read_segments


def as_text(content: str | bytes) -> np.ndarray:
    data = content.encode() if isinstance(content, str) else content
    return np.frombuffer(data + b"\n", np.uint8)


ROWS = [Segment(1, 7, 1054, 1162), Segment(2, 51, 1, 9), Segment(3, 12, 2000, 2300)]


@pytest.mark.parametrize(
    "content",
    [
        "7,1054,1162,2\n51,1,9,1\n12,2000,2300,2\n",
        "7,1054,1162\r\n51,1,9\r\n12,2000,2300",
        " 7 ,\t1054, 1162 , 2\n51,1,9\n+12,02000,2300,2 \n\n \r\n",
        "\ufeff7,1054,1162,2\n51,1,9,1\n12,2000,2300,2",
    ],
)
def test_rows_are_read_with_any_spacing(content: str) -> None:
    assert read_segments(as_text(content), "a.txt") == ROWS


@given(st.lists(st.tuples(*[st.integers(-(10**9), 10**9)] * 4), min_size=1), st.sampled_from([3, 4]))
def test_what_was_written_is_read(rows: list[tuple[int, ...]], columns: int) -> None:
    """Numbers that no video can have are returned unchanged: only the caller knows the video."""
    content = "".join(",".join(map(str, row[:columns])) + "\n" for row in rows)
    segments = read_segments(as_text(content), "a.txt")
    assert [(s.line, s.action, s.start, s.end) for s in segments] == [
        (i, *row[:3]) for i, row in enumerate(rows, 1)
    ]


DAMAGES = {
    "nothing": ("", r"^a\.txt: the file is empty$"),
    "blanks alone": ("\ufeff \n\n", r"^a\.txt: the file is empty$"),
    "two columns": ("1,2,3\n1,2\n", r"^a\.txt:2: 3 or 4 columns \(class,start,end,confidence\) .* found 2$"),
    "five columns": ("1,2,3,4,5", r"^a\.txt:1: 3 or 4 columns .* found 5$"),
    "blanks for commas": ("1 2 3 4", r"^a\.txt:1: 3 or 4 columns .* found 1$"),
    "an empty line within": ("1,2,3\n\n1,2,3", r"^a\.txt:2: the line is empty, and more follow$"),
    "a word": ("1,2,3\n1,two,3", r"^a\.txt:2: the start is to be a whole number, found 'two'$"),
    "a number with a point": ("5.0,2,3", r"^a\.txt:1: the class is to be a whole number, found '5\.0'$"),
    "an exponent": ("5,2,3e2", r"^a\.txt:1: the end is to be a whole number, found '3e2'$"),
    "a confidence that is none": (
        "5,2,3,high",
        r"^a\.txt:1: the confidence is to be a whole number, .*'high'$",
    ),
    "nothing between commas": ("5,,3", r"^a\.txt:1: the start is to be a whole number, found ''$"),
    "a comma at the end": ("5,2,3,", r"^a\.txt:1: the confidence is to be a whole number, found ''$"),
    "an underscore": ("5,2_0,3", r"found '2_0'$"),
    "a blank within": ("5,2 0,3", r"found '2 0'$"),
    "digits of other alphabets": ("٣,2,3", r"the class is to be a whole number"),
    "too many digits": ("5,2," + "9" * 5000, r"the end is to be a whole number, found '9{40}'$"),
    "bytes of nothing": ("5,2,3\0", r"holds 1 NUL bytes, the first at byte 5: damaged"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_reported_with_file_and_line(case: str) -> None:
    content, message = DAMAGES[case]
    with pytest.raises(RawError, match=message):
        read_segments(as_text(content), "a.txt")


SKELETON = " ".join(f"{v / 7:.6f}" for v in range(150))


@pytest.mark.parametrize(
    ("head", "labels"),
    [
        (b"7,1054,1162,2\n8,1200,1300,2\n", True),
        (b"7,1054,1162", True),
        (b"\xef\xbb\xbf 7 , 1054 , 1162\r\n", True),
        (b"\n\n7,1054,1162,2\n", True),
        (b"7,1054\n", True),
        (b"5.0,a,3,4,5\n", True),
        (b"", False),
        (b" \r\n\n", False),
        (f"{SKELETON}\n{SKELETON}\n".encode(), False),
        (SKELETON.encode()[:700], False),
        (SKELETON.replace(" ", ",").encode(), False),
        (f" \t{SKELETON}".encode(), False),
        (b"Training videos:\n0002-L, 0003-L,\n", False),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, }\n", False),
    ],
)
def test_label_files_are_recognised(head: bytes, labels: bool) -> None:
    assert looks_like_labels(head) is labels
