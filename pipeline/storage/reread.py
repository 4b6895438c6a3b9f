"""Small files of a place that others may replace at any moment."""

from collections.abc import Callable
from typing import TypeVar

from skelpipe.errors import SkelpipeError
from skelpipe.storage.filesystem import Filesystem

__all__ = ["read_parsed"]

T = TypeVar("T")


def read_parsed(place: Filesystem, name: str, parse: Callable[[bytes], T]) -> tuple[bytes, T]:
    """Return a file's bytes and what `parse` makes of them.

    A bucket is asked for the size first: a file that is replaced between the two requests comes cut or filled to
    the length of the old one. One that `parse` refuses (SkelpipeError or ValueError) is therefore read once more.
    """
    content = place.read(name)
    try:
        return content, parse(content)
    except (SkelpipeError, ValueError):
        content = place.read(name)
        return content, parse(content)
