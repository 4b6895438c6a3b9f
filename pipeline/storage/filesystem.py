"""Files at a place, read and written by relative name: what every place can do, and the local folder.

All keep the same promise: a name never stands for half a file.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import replacing

__all__ = ["CHUNK", "Filesystem", "LocalFilesystem", "checked_name", "one_line"]

CHUNK = 8 << 20  # bytes of a read: an object store answers each with one request
SHORTEST_SECRET = 4


class Filesystem(Protocol):
    """Files by relative name ("train/joint/000000.tar"), safe to use from several threads.

    Methods raise SkelpipeError naming place, file and reason; UsageError for a name that leads elsewhere.
    """

    @property
    def is_local(self) -> bool: ...

    @property
    def local_path(self) -> Path:
        """The folder of a local place; UsageError where the place is none."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        """Yield a file's bytes in order, in pieces of `chunk` bytes at most."""

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, None where there is no such file."""

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a file whole or not at all: if `chunks` raises, what had the name before keeps it."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def names(self) -> list[str]:
        """Return the names of all files at any depth, sorted; none where the place does not exist yet.

        UsageError for a place that cannot be listed."""

    def child(self, name: str) -> "Filesystem":
        """Return the place of a sub-folder."""


class LocalFilesystem:
    """A folder of this machine. Files appear by rename, after their bytes are on disk."""

    is_local = True

    def __init__(self, folder: Path) -> None:
        self.local_path = folder

    def __str__(self) -> str:
        return str(self.local_path)

    def read(self, name: str) -> bytes:
        path = self._path(name)
        with _told_local(path, "read"):
            return path.read_bytes()

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        path = self._path(name)
        with _told_local(path, "read"), open(path, "rb", buffering=0) as file:
            while piece := file.read(chunk):
                yield piece

    def size(self, name: str) -> int | None:
        path = self._path(name)
        with _told_local(path, "read"):
            return path.stat().st_size if path.is_file() else None

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        with replacing(self._path(name), durable=True) as file:
            for chunk in chunks:
                file.write(chunk)

    def remove(self, name: str) -> None:
        path = self._path(name)
        with _told_local(path, "removed"):
            path.unlink()

    def names(self) -> list[str]:
        found = []
        with _told_local(self.local_path, "listed"):
            if self.local_path.exists() and not self.local_path.is_dir():
                raise UsageError(f"{self}: is a file, not a folder")
            for folder, _, files in os.walk(self.local_path, onerror=_raise):
                inside = Path(folder).relative_to(self.local_path)
                found += [(inside / file).as_posix() for file in files]
        return sorted(found)

    def child(self, name: str) -> "LocalFilesystem":
        return LocalFilesystem(self._path(name))

    def _path(self, name: str) -> Path:
        return self.local_path / checked_name(name)


def checked_name(name: str) -> str:
    """Return a relative name; UsageError where it could lead out of its place."""
    path = PurePosixPath(name)
    if name in ("", ".") or path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
        raise UsageError(f"{name!r} is no name of a file within a place")
    return name


def one_line(error: Exception, secrets: tuple[str, ...]) -> str:
    """Return an error's text as one line without secrets; what is too short to be one may stay."""
    text = re.sub(r"^\[Errno \d+\] ", "", " ".join(str(error).split()))
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


@contextmanager
def _told_local(path: Path, deed: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot be {deed}: {error.strerror or error}") from error


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
