"""Write files so that a file name never belongs to an incomplete file; sizes, hashes and JSON."""

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO, Any

from skelpipe.door.refusals import refusal
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.untrusted import require_plain

__all__ = [
    "MOST_READ",
    "PART",
    "HashingWriter",
    "canonical_json",
    "flush_to_disk",
    "read_at",
    "read_at_most",
    "read_lines",
    "replacing",
    "size_and_hash",
    "size_and_hash_of",
    "unique_keys",
    "write_json",
]

CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
PART = ".part"
MOST_READ = 64 << 20  # bytes of a file that is read whole, such as a card: one of 90,000 shards is as long
CHUNK = 1 << 20  # bytes read at a time
_SEEKING = threading.Lock()


@contextmanager
def replacing(
    path: Path, *, durable: bool = False, shared: bool = False, needs: int | Callable[[], int] = 0
) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name when it is complete; on failure it is removed.

    `durable` waits until the file is on disk, so that it survives a power failure. `shared` is for files that two
    processes may write at the same time (a cluster repeats a task while a lost worker still works on it): the file
    that is completed last stays. OSErrors, and whatever else a full disk leads to, become SkelpipeErrors, which
    name the size in bytes that the file `needs`, if it is known, or can then be found out.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}" if shared else path.name + PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if not isinstance(error, SkelpipeError) and (said := refusal(error, path.parent, needs)) is not None:
            raise SkelpipeError(f"{path}: cannot be written: {said}") from error
        raise


def flush_to_disk(path: Path) -> None:
    """Wait until a file is on disk, so that it survives a power failure."""
    with open(path, "rb+") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())


def read_at(file: FileIO, size: int, offset: int) -> bytes:
    """Return up to `size` bytes of an open file from `offset` on; safe to use from several threads."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, offset)
    with _SEEKING:  # Windows
        file.seek(offset)
        return file.read(size)


def read_at_most(path: Path, most: int, *, plain: bool = True) -> bytes:
    """Return a file's bytes; SkelpipeError where they are more than `most`, and OSError as `open` raises it.

    A pipe or a device is read only where it need not be a `plain` file: where the user has named it.
    """
    if plain:
        require_plain(path)
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise SkelpipeError(f"{path}: is longer than {most:,} bytes, which no such file is")
    return content


def read_lines(path: Path, where: str, *, plain: bool = True) -> list[str]:
    """Return the lines of a text file, such as a list of names; `plain` as in `read_at_most`.

    Raises UsageError, which begins with `where`, where it cannot be read, is no UTF-8 text, or longer than 64 MiB.
    """
    try:
        return read_at_most(path, MOST_READ, plain=plain).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{where}: is no UTF-8 text") from None
    except SkelpipeError:
        raise UsageError(f"{where}: is longer than {MOST_READ >> 20} MB, which no list is") from None


def size_and_hash(path: Path) -> tuple[int, str]:
    """Return a file's size in bytes and its sha256 in hex, reading it in pieces."""
    with open(path, "rb") as file:
        return size_and_hash_of(iter(lambda: file.read(CHUNK), b""))


def size_and_hash_of(pieces: Iterable[bytes]) -> tuple[int, str]:
    """Return the total size of all pieces in bytes, and the sha256 of all of them in hex."""
    hasher = hashlib.sha256()
    size = 0
    for piece in pieces:
        hasher.update(piece)
        size += len(piece)
    return size, hasher.hexdigest()


class HashingWriter:
    """Write to a file, and compute the size and the sha256 of everything written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self._hash.update(content)
        self.size += len(content)


def canonical_json(content: Any) -> bytes:
    """Return the one JSON text of `content`: sorted keys, no spaces, ASCII. Digests are hashes of it."""
    return CANONICAL.encode(content).encode()


def write_json(
    path: Path, content: Any, *, durable: bool = False, shared: bool = False, indent: int | None = 1
) -> None:
    """Write `content` as readable JSON, completely or not at all; `durable` and `shared` as in `replacing`.

    Without `indent` it is one line, which takes a fifth of the time.
    """
    with replacing(path, durable=durable, shared=shared) as file:
        file.write((json.dumps(content, indent=indent, sort_keys=True, allow_nan=False) + "\n").encode())


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the keys and values of an object of JSON; ValueError that names a key which is given twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is given twice in one object")
    return content
