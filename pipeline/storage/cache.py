"""A folder that keeps whole files by their sha256, shared by all processes of a machine.

DIR/files/ab/ab12…   files named by their sha256; a file gets this name once it is complete and verified
DIR/files/*.part     files that are being fetched
DIR/cards/…          dataset cards, named by a hash of the dataset's URL
DIR/locks/…          lock files

A file that is open or mapped is in use and never removed to make room (see `skelpipe.locks`). Files get and lose
their names while the lock `room` is held. Only the user can read files and folders (0600, 0700).
"""

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import PART
from skelpipe.locks import keep, locked, remove_unused

__all__ = ["FULL", "Cache", "NoRoomError"]

CARD_SECONDS = 24 * 3600.0  # a card that was confirmed no longer ago is used without asking the server
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
BLOCK = 8 << 20


class NoRoomError(SkelpipeError):
    """There is no room for another file: the disk is full, or all files of the cache are in use."""


class Cache:
    """Files of at most `size` bytes in total under `folder`; the least recently used are removed first."""

    def __init__(self, folder: Path, size: int) -> None:
        """Create the folder if needed; SkelpipeError where it cannot be used or locked, or is another user's."""
        self.folder, self.size = folder, size
        self._verified: set[tuple[str, int]] = set()  # sha256 and inode that this process has hashed
        self._files, self._cards, self._locks = (folder / name for name in ("files", "cards", "locks"))
        with self._translated("cannot be used as a cache"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for own in (self._files, self._cards, self._locks):
                own.mkdir(mode=0o700, exist_ok=True)
                if hasattr(os, "geteuid") and own.stat().st_uid != os.geteuid():
                    raise UsageError(f"{folder}: is the cache of another user: name another folder with --cache")
            with self._locked("room"):
                pass

    def __str__(self) -> str:
        return str(self.folder)

    def find(self, sha256: str, size: int | None = None) -> IO[bytes] | None:
        """Return a file, open and locked, or None. A file whose content does not match its name is removed."""
        path = self._path(sha256)
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SkelpipeError(f"{path}: cannot be read: {error.strerror}") from None
        keep(file)
        facts = os.fstat(file.fileno())
        if facts.st_nlink and self._is_whole(file, sha256, size, facts):
            with suppress(OSError):
                os.utime(path)
            return file
        if facts.st_nlink:
            with self._locked("room"), suppress(OSError):
                if path.stat().st_ino == facts.st_ino:
                    file.close()  # Windows removes no open file
                    path.unlink()
        file.close()
        return None

    def _is_whole(self, file: IO[bytes], sha256: str, size: int | None, facts: os.stat_result) -> bool:
        if size is not None and facts.st_size != size:
            return False
        if (sha256, facts.st_ino) not in self._verified:
            hasher = hashlib.sha256()
            try:
                while piece := file.read(BLOCK):
                    hasher.update(piece)
            except OSError:  # a disk error counts as damage
                return False
            if hasher.hexdigest() != sha256:
                return False
            self._verified.add((sha256, facts.st_ino))
            file.seek(0)
        return True

    @contextmanager
    def filling(self, sha256: str) -> Iterator[None]:
        """Let one process at a time fetch a file: one that had to wait should look for the file again."""
        with self._locked(sha256[:2]):
            yield

    def store(self, sha256: str, size: int, write: Callable[[IO[bytes]], object]) -> IO[bytes]:
        """Let `write` write the file's verified bytes, and return the file open and locked.

        Raises NoRoomError, at the latest when the disk refuses a write, and whatever `write` raises; then nothing
        of the file is left.
        """
        part = self._files / f"{sha256}.{secrets.token_hex(8)}{PART}"
        file = self._reserve(part, size)
        try:
            write(file)
            file.flush()
            path = self._path(sha256)
            with self._translated("cannot be written"), self._locked("room"):
                path.parent.mkdir(mode=0o700, exist_ok=True)
                file.close()  # Windows renames no open file; nobody removes it, since that takes the lock
                os.replace(part, path)
                file = open(path, "rb", buffering=0)  # noqa: SIM115
                keep(file)
            self._verified.add((sha256, os.fstat(file.fileno()).st_ino))
        except BaseException as error:
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                part.unlink()
            if isinstance(error, OSError):
                raise self._error_for(error, "cannot be written") from None
            raise
        return file

    def card(self, key: str) -> bytes | None:
        """Return the card of the dataset `key` (see `url_key`), if it was confirmed within CARD_SECONDS."""
        path = self._cards / key
        try:
            if not 0 <= time.time() - path.stat().st_mtime < CARD_SECONDS:
                return None
            return path.read_bytes()
        except OSError:
            return None

    def keep_card(self, key: str, content: bytes) -> None:
        """Keep a card that was confirmed just now. Failing to write is no error: it is fetched again next time."""
        part = self._cards / f"{key}.{secrets.token_hex(8)}{PART}"
        with suppress(OSError):
            try:
                with _create(part) as file:
                    file.write(content)
                os.replace(part, self._cards / key)
            except OSError:
                part.unlink()

    def drop_card(self, key: str) -> None:
        """Remove a card: it is fetched again next time."""
        with suppress(OSError):
            (self._cards / key).unlink()

    def _reserve(self, part: Path, size: int) -> IO[bytes]:
        """Make room for a file and allocate all its blocks, so that a full disk is noticed before fetching."""
        with self._locked("room"):
            kept = self._kept()
            surplus = sum(held for _, held, _ in kept) + size - self.size
            if _freed(kept, surplus) < surplus:
                raise NoRoomError(
                    f"{self}: no room for another {size:,} bytes: the rest of --cache-size {self.size:,} is in use"
                )
            while True:
                try:
                    return _allocated(part, size)
                except OSError as error:
                    if error.errno not in FULL or not _freed(self._kept(), size):  # others fill the disk too
                        raise self._error_for(error, "cannot be written") from None

    def _kept(self) -> list[tuple[float, int, Path]]:
        """Return (last use, size, path) of each file, the oldest first; remove parts left by killed processes."""
        found = []
        for path in self._files.rglob("*"):
            with suppress(OSError):  # another process removed it
                if path.is_file() and not (path.name.endswith(PART) and remove_unused(path)):
                    facts = path.stat()
                    found.append((facts.st_mtime, facts.st_size, path))
        return sorted(found)

    def _path(self, sha256: str) -> Path:
        return self._files / sha256[:2] / sha256

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        lock = locked(self._locks / name, private=True)
        with self._translated("cannot be locked"):
            lock.__enter__()
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    @contextmanager
    def _translated(self, problem: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error_for(error, problem) from None

    def _error_for(self, error: OSError, problem: str) -> SkelpipeError:
        kind = NoRoomError if error.errno in FULL else SkelpipeError
        return kind(f"{self}: the cache {problem}: {error.strerror or error}")


def _create(path: Path) -> IO[bytes]:
    return open(path, "xb+", buffering=0, opener=partial(os.open, mode=0o600))


def _allocated(path: Path, size: int) -> IO[bytes]:
    """Create a file, and keep it, with all its blocks allocated; where that fails nothing of it is left.

    macOS cannot allocate so: there a full disk is noticed when it refuses a write.
    """
    file = _create(path)
    try:
        keep(file)
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif size:
            file.truncate(size)  # allocates on Windows
    except BaseException:
        file.close()
        path.unlink()
        raise
    return file


def _freed(kept: list[tuple[float, int, Path]], wanted: int) -> int:
    """Remove files in the order of `kept` until `wanted` bytes are freed; return how many were."""
    free = 0
    for _, size, path in kept:
        if free >= wanted:
            break
        if remove_unused(path):
            free += size
    return free
