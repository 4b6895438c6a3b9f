"""Small remote files that another process may replace at any moment."""

from collections.abc import Callable
from typing import TypeVar

from skelpipe.errors import SkelpipeError
from skelpipe.storage.filesystem import Filesystem

__all__ = ["read_parsed"]

T = TypeVar("T")


def read_parsed(filesystem: Filesystem, name: str, parse: Callable[[bytes], T]) -> tuple[bytes, T]:
    """Return the bytes of a file and what `parse` returns for them.

    A bucket is asked for the size first. A file that is replaced between these two requests is cut or padded to
    the length of the old one. So a file that `parse` refuses (SkelpipeError or ValueError) is read once more.
    """
    content = filesystem.read(name)
    try:
        return content, parse(content)
    except (SkelpipeError, ValueError):
        content = filesystem.read(name)
        return content, parse(content)
