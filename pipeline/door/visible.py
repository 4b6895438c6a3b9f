"""Text whose control characters can be seen: a name in a dataset must not move a cursor or turn a line around.

`visible` is the only function for it. A command's streams use it for all they write (`visible_streams`), and pages
use it where they are written.
"""

import codecs
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

__all__ = ["beneath", "visible", "visible_in", "visible_lines", "visible_streams"]


class _Escapes(dict[int, str]):
    """What `str.translate` puts for each character, found out when one is first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        shown = character
        if not character.isprintable() and unicodedata.category(character) != "Zs":
            shown = character.encode("unicode-escape").decode()
        self[code] = shown
        return shown


_IN_A_LINE = _Escapes()
_IN_LINES = _Escapes({ord("\n"): "\n", ord("\t"): "\t"})


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return `text` with escapes, such as `\x1b` or `\u202e`, for what is no visible character and no space.

    These are control characters, changes of direction, ends of lines, what has no width, and bytes that are no
    UTF-8. With `lines` the ends of lines `\n`, and tabs, stay.
    """
    return text if text.isprintable() else text.translate(_IN_LINES if lines else _IN_A_LINE)


def visible_in(content: Any) -> Any:
    """Return JSON-like content with all its texts, keys too, made `visible`."""
    if isinstance(content, str):
        return visible(content)
    if isinstance(content, dict):
        return {visible(key): visible_in(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return content if _numbers(content) else [visible_in(each) for each in content]
    return content


def visible_lines(lines: Iterable[str]) -> str:
    """Return lines, each made `visible`, as one text."""
    return "\n".join(map(visible, lines))


def _numbers(content: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether a list, such as the many of a clip's positions, is plainly of numbers."""
    return bool(content) and isinstance(content[0], float | int) and isinstance(content[-1], float | int)


class _VisibleStream:
    """A text stream that writes visible text to the `stream` beneath it, and is that stream in all else.

    What keeps it from writing is an OSError that has its `name` as that of the file.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self.stream, self._name = stream, name

    def write(self, text: str) -> int:
        with self._named():
            self.stream.write(visible(text, lines=True))
        return len(text)

    def flush(self) -> None:
        with self._named():
            self.stream.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.filename is None:
                error.filename = self._name
            raise

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def beneath(stream: TextIO) -> TextIO:
    """Return the stream that takes control characters: for what moves the cursor. Names in it need `visible`."""
    return stream.stream if isinstance(stream, _VisibleStream) else stream


@contextmanager
def visible_streams() -> Iterator[None]:
    """Let stdout and stderr show control characters, and what their encoding lacks, as escapes.

    ASCII streams write UTF-8: that locale is one that nobody has chosen.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, TextIOWrapper):
            named = codecs.lookup(stream.encoding).name
            stream.reconfigure(encoding="utf-8" if named == "ascii" else named, errors="backslashreplace")
    names = "standard output", "standard error"
    sys.stdout, sys.stderr = (
        cast("TextIO", each and _VisibleStream(each, name)) for each, name in zip(before, names, strict=True)
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
