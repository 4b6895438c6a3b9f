"""Writing files so that a name never stands for half a file."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from skelpipe.errors import SkelpipeError

__all__ = [
    "PART",
    "HashingWriter",
    "canonical_json",
    "measured",
    "replacing",
    "settle_on_disk",
    "size_and_hash",
    "write_json",
]

CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
PART = ".part"
CHUNK = 1 << 20  # bytes read at a time


@contextmanager
def replacing(path: Path, *, durable: bool = False, shared: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes its name only when it is whole; on failure it is gone.

    `durable` waits until it is on disk, for what must outlive a power cut. `shared` is for files that two
    processes may write at once (a cluster runs a task again while a lost worker still works on it): the last
    one whole wins. OSErrors become SkelpipeErrors.
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
        if isinstance(error, OSError):
            raise SkelpipeError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def settle_on_disk(path: Path) -> None:
    """Wait until a file is on disk, for what must outlive a power cut."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def size_and_hash(path: Path) -> tuple[int, str]:
    """Return a file's size in bytes and its sha256 in hex, reading a little at a time."""
    with open(path, "rb") as file:
        return measured(iter(lambda: file.read(CHUNK), b""))


def measured(pieces: Iterable[bytes]) -> tuple[int, str]:
    """Return the size in bytes of all pieces together and their sha256 in hex."""
    hasher = hashlib.sha256()
    size = 0
    for piece in pieces:
        hasher.update(piece)
        size += len(piece)
    return size, hasher.hexdigest()


class HashingWriter:
    """Writes to a file and knows the size and the sha256 of what went into it."""

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
    """Return the one JSON text of `content`: sorted keys, no spaces, ASCII. What digests are taken of."""
    return CANONICAL.encode(content).encode()


def write_json(path: Path, content: Any, *, durable: bool = False, shared: bool = False) -> None:
    """Write `content` as readable JSON, whole or not at all; `durable` and `shared` as for `replacing`."""
    with replacing(path, durable=durable, shared=shared) as file:
        file.write((json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
