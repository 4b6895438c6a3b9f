"""Small damages of a file, as data: drawn by thousands per second, or by hypothesis, which shrinks them."""

import re
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from hypothesis import strategies as st

__all__ = ["Edit", "damaged", "draw", "edits"]

PLACES = 1 << 32  # an edit's place is a fraction of the file
TOKENS = (
    *(b"", b"0", b"-1", b"+1", b"1", b"2", b"007", b".5", b"5.", b"1e5", b"-0.0", b"1e999", b"1e-400", b"0x10"),
    *(b"1_0", b"1,5", b"nan", b"NaN", b"-nan(ind)", b"nan(0x8)", b"1.#QNAN", b"-1.#IND00", b"1.#INF", b"inf"),
    *(b"Infinity", b"e", b"-", b"--1", b"1-", b"9" * 18, b"9" * 19, b"9" * 400, b"9" * 5000, b"0." + b"1" * 40),
    *("٣".encode(), "²".encode(), b"\xb2", b"1" * 17 + b".25", b"18446744073709551615", b"-9223372036854775808"),
    *(b" ", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\x1b[2J", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\x80"),
    *(b"[", b"]", b"{", b"}", b"[" * 2000, b'"', b"'", b",", b":", b";", b"#", b"null", b"true", b"[]", b"{}"),
    *(b"&a ", b"*a", b"- ", b"? ", b"|", b"!!int ", b"!!python/object/apply:os.getcwd []", b"2001-99-99", b"<<: "),
    *(b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\x01"),
)
WORD = re.compile(rb"[0-9.eE+-]+|[A-Za-z_]+")


class Edit(NamedTuple):
    """One damage: what is done, where in the file, to how many bytes, and which of `TOKENS` is used."""

    what: int
    place: int
    size: int
    token: int


def _flip(content: bytes, at: int, edit: Edit) -> bytes:
    return content[:at] + bytes([content[at] ^ (1 << edit.token % 8)]) + content[at + 1 :] if content else b""


def _remove(content: bytes, at: int, edit: Edit) -> bytes:
    return content[:at] + content[at + edit.size :]


def _insert(content: bytes, at: int, edit: Edit) -> bytes:
    return content[:at] + TOKENS[edit.token] + content[at:]


def _overwrite(content: bytes, at: int, edit: Edit) -> bytes:
    token = TOKENS[edit.token]
    return content[:at] + token + content[at + len(token) :]


def _replace_word(content: bytes, at: int, edit: Edit) -> bytes:
    found = WORD.search(content, at) or WORD.search(content)
    return content if found is None else content[: found.start()] + TOKENS[edit.token] + content[found.end() :]


def _repeat(content: bytes, at: int, edit: Edit) -> bytes:
    return content[: at + edit.size] + content[at:]


def _cut(content: bytes, at: int, edit: Edit) -> bytes:
    return content[:at]


def _drop_line(content: bytes, at: int, edit: Edit) -> bytes:
    start, end = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at) + 1
    return content[:start] + (content[end:] if end else b"")


def _repeat_line(content: bytes, at: int, edit: Edit) -> bytes:
    start, end = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at) + 1
    return content[:end] + content[start:] if end else content


KINDS: tuple[Callable[[bytes, int, Edit], bytes], ...] = (
    *(_flip, _remove, _insert, _overwrite, _replace_word, _replace_word, _repeat, _cut, _drop_line, _repeat_line),
)


def damaged(content: bytes, edits: list[Edit]) -> bytes:
    """Return the content with the edits made, one after another."""
    for edit in edits:
        content = KINDS[edit.what](content, len(content) * edit.place // PLACES, edit)
    return content


def draw(random: Random) -> list[Edit]:
    """Return one to three edits, mostly one."""
    pick = random.randrange
    count = (1, 1, 1, 2, 3)[pick(5)]
    return [
        Edit(
            random.randrange(len(KINDS)),
            random.getrandbits(32),
            random.getrandbits(5),
            random.randrange(len(TOKENS)),
        )
        for _ in range(count)
    ]


edits = st.lists(
    st.builds(
        Edit,
        st.integers(0, len(KINDS) - 1),
        st.integers(0, PLACES - 1),
        st.integers(0, 31),
        st.integers(0, len(TOKENS) - 1),
    ),
    min_size=1,
    max_size=4,
)
