"""Text whose control characters can be seen, on streams as well."""

import io
import sys
import unicodedata

import pytest

from skelpipe.door.visible import beneath, visible, visible_in, visible_streams

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # categories of Unicode: controls, formats, surrogates, ends of lines


def test_no_character_that_controls_something_is_left_and_no_other_is_changed() -> None:
    for code in [*range(0x3200), *range(0xD7F0, 0x10000), *range(0x1F300, 0x1F700), 0xE0001, 0x10FFFF]:
        shown, kind = visible(chr(code)), unicodedata.category(chr(code))
        assert all(unicodedata.category(each) not in HIDDEN for each in shown), hex(code)
        if kind not in HIDDEN | {"Co", "Cn"}:
            assert shown == chr(code), hex(code)


def test_escapes_are_those_of_python() -> None:
    assert visible("a\x1b[2J\u202eb\ud800\x9b\x7f\u2028\n") == r"a\x1b[2J\u202eb\ud800\x9b\x7f\u2028\n"
    assert visible("a\tb\r\n", lines=True) == "a\tb\\r\n"
    assert visible("走る\u3000für") == "走る\u3000für"


def test_texts_within_content() -> None:
    assert visible_in({"\x07": ["a\u202e", (1.0, 2), {"b": None}]}) == {
        r"\x07": [r"a\u202e", (1.0, 2), {"b": None}]
    }


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("ascii", b"\xc3\xa9"), ("latin-1", b"\xe9"), ("utf-8", b"\xc3\xa9")],
)
def test_streams_show_them_in_any_locale(encoding, written, monkeypatch) -> None:
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with visible_streams():
        print("é\x1b\ud800")
        assert beneath(sys.stdout) is stream
        beneath(sys.stdout).write("\r\x1b[K")
    assert sys.stdout is stream
    stream.flush()
    assert content.getvalue() == written + b"\\x1b\\ud800\n\r\x1b[K"


def test_what_an_encoding_lacks_is_an_escape(monkeypatch) -> None:
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, "latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    with visible_streams():
        print("走る")
    stream.flush()
    assert content.getvalue() == b"\\u8d70\\u308b\n"
