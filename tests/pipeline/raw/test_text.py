"""Texts that other programs saved in their way: byte order marks, CR line ends, NUL bytes, spellings of NaN."""

from collections.abc import Callable

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.manifest import Manifest
from skelpipe.manifest_file import load_manifest
from skelpipe.raw.form import Form
from skelpipe.raw.labels import read_segments
from skelpipe.raw.readers import READERS
from skelpipe.raw.recording import Recording
from skelpipe.raw.text import is_nan, read_as_text

NANS = [
    "nan",
    "-nan",
    "NaN",
    "+NAN",
    "1.#IND",
    "-1.#IND00",
    "1.#QNAN",
    "-1.#QNAN0",
    "1.#SNAN",
    "nan(ind)",
    "-nan(snan)",
]
NO_NANS = ["nano", "na", "n", "1.#", "1.#NANO", "nan(", "nan(ind", "nan(ind)1", "1.#INDX", "NaN,", "0nan"]
DRESSES: dict[str, Callable[[str], bytes]] = {
    "mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "mark and CR": lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "big-endian UTF-16": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
}
XYZ = np.random.default_rng(5).normal(size=(4, 25, 3)).round(5)


def numbers(xyz: np.ndarray) -> list[str]:
    return [f"{value:.5f}" for value in xyz.ravel()]


def ntu(words: list[str]) -> str:
    lines = ["4"]
    for frame in range(4):
        lines += ["1", "72057594037931101 0 1 1 0 0 0 0.1 0.2 2", "25"]
        rows = np.reshape(words, (4, 25, 3))[frame]
        lines += [" ".join(row) + " 1 2 3 4 0 0 0 1 2" for row in rows]
    return "\n".join(lines) + "\n"


def pku(words: list[str]) -> str:
    return "".join(" ".join(row) + " 0" * 75 + "\n" for row in np.reshape(words, (4, 75)))


def msr(words: list[str]) -> str:
    return "".join(" ".join(row) + " 1.0\n" for row in np.reshape(words, (100, 3)))


FORMATS = {"ntu-skeleton": (ntu, "ntu60"), "pku-text": (pku, "pkummd1"), "msr-text": (msr, "msr-action3d")}


def read(reader: str, content: bytes) -> Recording:
    manifest: Manifest = load_manifest(FORMATS[reader][1])
    return READERS[reader](np.frombuffer(content + b"\n", np.uint8), "a.txt", Form.of(manifest))


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("reader", FORMATS)
def test_every_text_reader_reads_the_same_text(reader, dress) -> None:
    text = FORMATS[reader][0](numbers(XYZ))
    recording = read(reader, DRESSES[dress](text))
    assert np.array_equal(recording.xyz.ravel(), XYZ.ravel())


@pytest.mark.parametrize("dress", DRESSES)
def test_label_files_too(dress) -> None:
    text = "5,10,20,2\n7,30,40,1\n"
    rows = read_segments(np.frombuffer(DRESSES[dress](text) + b"\n", np.uint8), "a.label")
    assert [(row.line, row.action, row.start, row.end) for row in rows] == [(1, 5, 10, 20), (2, 7, 30, 40)]


@pytest.mark.parametrize("reader", FORMATS)
def test_blocks_of_nul_bytes_are_named(reader) -> None:
    content = FORMATS[reader][0](numbers(XYZ)).encode()
    half = len(content) // 2
    for damaged, first in ((content[:half] + bytes(512) + content[half:], half), (bytes(64) + content, 0)):
        with pytest.raises(
            RawError, match=rf"^a\.txt: holds {512 if first else 64} NUL bytes, the first at byte {first}:"
        ):
            read(reader, damaged)


@pytest.mark.parametrize("word", NANS)
@pytest.mark.parametrize("reader", FORMATS)
def test_every_spelling_of_nan_is_a_joint_that_was_not_found(reader, word) -> None:
    words = numbers(XYZ)
    words[3:6] = [word, word, word]
    expected = XYZ.ravel().copy()
    expected[3:6] = np.nan
    recording = read(reader, FORMATS[reader][0](words).encode())
    assert np.array_equal(recording.xyz.ravel(), expected, equal_nan=True)
    assert is_nan(word.encode())


@pytest.mark.parametrize("word", NO_NANS)
@pytest.mark.parametrize("reader", FORMATS)
def test_other_words_are_no_nan(reader, word) -> None:
    words = numbers(XYZ)
    words[4] = word
    with pytest.raises(RawError, match=r"a\.txt:\d+: .* is not a number"):
        read(reader, FORMATS[reader][0](words).encode())
    assert not is_nan(word.encode())


@pytest.mark.parametrize("word", ["inf", "-Infinity", "1.#INF", "1e999"])
@pytest.mark.parametrize("reader", FORMATS)
def test_infinity_is_refused(reader, word) -> None:
    words = numbers(XYZ)
    words[4] = word
    with pytest.raises(RawError, match=r"a\.txt:\d+: .*not (a )?(finite|number)"):
        read(reader, FORMATS[reader][0](words).encode())


def test_a_body_of_nan_is_absent_in_pku_text() -> None:
    lines = pku(numbers(XYZ)).splitlines()
    lines[2] = " ".join(["nan"] * 150)
    recording = read("pku-text", "\n".join(lines).encode())
    assert recording.counts.tolist() == [1, 1, 0, 1]


def test_the_first_error_is_that_of_the_text_as_it_is() -> None:
    seen = []

    def refuse(text: np.ndarray) -> None:
        seen.append(bytes(text))
        raise RawError(f"attempt {len(seen)}")

    with pytest.raises(RawError, match="attempt 1"):
        read_as_text(refuse, np.frombuffer(b"1 2\n3\n", np.uint8), "a")
    with pytest.raises(RawError, match="attempt 3"):
        read_as_text(refuse, np.frombuffer(b"\xef\xbb\xbf1 2\r3\r\n", np.uint8), "a")
    assert seen[1:] == [b"\xef\xbb\xbf1 2\r3\r\n", b"1 2\n3\n\n"]
    with pytest.raises(RawError, match="starts like UTF-16 text, but is none"):
        read_as_text(refuse, np.frombuffer(b"\xff\xfe1\n", np.uint8), "a")
