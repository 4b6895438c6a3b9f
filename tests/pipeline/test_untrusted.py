"""What messages repeat of texts that others wrote, and which of them are numbers."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.untrusted import described, require_plain, shown, whole

ODD = st.one_of(
    st.text(),
    st.binary(),
    st.integers(),
    st.floats(),
    st.none(),
    st.recursive(st.text(max_size=9), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner)),
)


@given(ODD)
def test_a_value_is_shown_on_one_short_printable_line(value) -> None:
    text = described(value)
    assert 0 < len(text) <= 40
    assert text.isprintable()


def test_a_short_value_is_shown_whole() -> None:
    shown_so = {"a": "'a'", 5: "5", None: "nothing", 1.5: "1.5", (1, "b"): "(1, 'b')", b"x": "b'x'"}
    assert {value: described(value) for value in shown_so} == shown_so
    assert described([1, [2, 3], {"k": "v"}]) == "[1, [2, 3], {'k': 'v'}]"
    assert described("a" * 41) == "'" + "a" * 36 + "..."


def test_huge_values_are_shown_at_once() -> None:
    """`repr` of each would take seconds or fail."""
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value in ("x" * (1 << 28), [0] * (1 << 24), 10**5000, [10**5000], nested):
        assert len(described(value)) <= 40


@given(st.text(), st.integers(4, 60))
def test_words_of_others_are_shown_on_one_line(text, most) -> None:
    line = shown(text, most)
    assert len(line) <= most
    assert line == "" or line.isprintable()
    if text.isprintable() and text == " ".join(text.split()) and len(text) <= most:
        assert line == text


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1 ", "1_0", "٣", "²", "1.0", "0x1", "9" * 19, "9" * 9999, "NaN"]
)
def test_what_is_no_number(text) -> None:
    assert whole(text) is None


@given(st.integers(0, 10**18 - 1))
def test_what_is_one(number) -> None:
    assert whole(str(number)) == whole(f"{number:018}") == number
    assert whole(str(number), 2) == (number if number < 100 else None)


def test_only_files_of_bytes_are_plain(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        require_plain(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        require_plain(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        require_plain(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has none of these")
@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_pipes_devices_and_sockets_are_none(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    if kind == "pipe":
        os.mkfifo("x")
    elif kind == "device":
        Path("x").symlink_to(os.devnull)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("x")
        listener.close()
    with pytest.raises(OSError, match=r"it is a pipe or a device, and no file"):
        require_plain("x")
