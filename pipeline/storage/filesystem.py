"""Files read and written by relative name: the methods of every filesystem, and the local folder.

All of them keep one promise: a file that has its name is complete.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from skelpipe.door.refusals import why
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import MOST_READ, replacing
from skelpipe.storage.deadlines import require_wanted
from skelpipe.untrusted import described, require_plain, shown

__all__ = ["CHUNK", "Filesystem", "LocalFilesystem", "at_most", "checked_name", "one_line", "read_whole"]

CHUNK = 8 << 20  # bytes per read: each is one request to an object store
SHORTEST_SECRET = 4
LONGEST_REASON = 500  # characters; the S3 client says what it did before what the server said


class Filesystem(Protocol):
    """Files by relative name ("train/joint/000000.tar"), safe to use from several threads.

    `str` is its folder or URL without secrets. Methods raise SkelpipeError with this, file and reason, and
    UsageError for a name that leads out of it.
    """

    @property
    def is_local(self) -> bool: ...

    @property
    def local_path(self) -> Path:
        """The folder, of a local filesystem; UsageError otherwise."""

    def read(self, name: str, most: int = MOST_READ) -> bytes:
        """Return a file's bytes; SkelpipeError where they are more than `most`, which are not all read then."""

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        """Yield a file's bytes in order, in pieces of at most `chunk` bytes."""

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, None where there is no such file."""

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a file completely or not at all: if `chunks` raises, an older file of that name stays."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def names(self) -> list[str]:
        """Return the names of all files at any depth, sorted; none where the folder or prefix does not exist yet.

        UsageError where the server cannot list its files."""

    def child(self, name: str) -> "Filesystem":
        """Return the filesystem of a sub-folder."""


class LocalFilesystem:
    """A folder of this machine. A file gets its name after its bytes are on disk."""

    is_local = True

    def __init__(self, folder: Path) -> None:
        self.local_path = folder

    def __str__(self) -> str:
        return str(self.local_path)

    def read(self, name: str, most: int = MOST_READ) -> bytes:
        return read_whole(self.stream(name), most, self._path(name))

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        path = self._path(name)
        with _translated(path, "read"):
            require_plain(path)
            with open(path, "rb", buffering=0) as file:
                while piece := file.read(chunk):
                    require_wanted()
                    yield piece

    def size(self, name: str) -> int | None:
        path = self._path(name)
        with _translated(path, "read"):
            return path.stat().st_size if path.is_file() else None

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        with replacing(self._path(name), durable=True) as file:
            for chunk in chunks:
                file.write(chunk)

    def remove(self, name: str) -> None:
        path = self._path(name)
        with _translated(path, "removed"):
            path.unlink()

    def names(self) -> list[str]:
        found = []
        with _translated(self.local_path, "listed"):
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


def at_most(pieces: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Yield the pieces of a file until they are more than `most` bytes: a server may send without end."""
    got = 0
    for piece in pieces:
        yield piece
        got += len(piece)
        if got > most:
            return


def read_whole(pieces: Iterable[bytes], most: int, where: object) -> bytes:
    """Return all pieces of a file as one; SkelpipeError, beginning with `where`, as soon as they are too many."""
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > most:
            raise SkelpipeError(f"{where}: is longer than {most:,} bytes, which no such file is")
    return bytes(content)


def checked_name(name: str) -> str:
    """Return a relative name; UsageError where it could lead out of the filesystem."""
    path = PurePosixPath(name)
    if name in ("", ".") or path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
        raise UsageError(f"{described(name)} is not the name of a file inside a folder, bucket or web address")
    return name


def one_line(error: Exception, secrets: tuple[str, ...]) -> str:
    """Return an error's text as one line without secrets; a text too short to be a secret may stay."""
    text = re.sub(r"^\[Errno \d+\] ", "", " ".join(str(error).split()))
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return shown(text, LONGEST_REASON)


@contextmanager
def _translated(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot be {done}: {why(error)}") from error


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
