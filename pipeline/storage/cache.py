"""A folder that keeps whole files by their sha256, shared by all processes of a machine.

DIR/files/ab/ab12…   files named by their sha256; a file gets this name once it is complete and verified
DIR/files/*.part     files that are being fetched
DIR/cards/…          dataset cards, named by a hash of the dataset's URL
DIR/locks/…          lock files

A file that is open or mapped has a shared lock: it is in use and never removed to make room. The system releases
the locks of a process that is killed. Only the user can read files and folders (0600, 0700).
"""

import errno
import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import PART

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
                if own.stat().st_uid != os.geteuid():
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
        fcntl.flock(file, fcntl.LOCK_SH)
        facts = os.fstat(file.fileno())
        if facts.st_nlink and self._is_whole(file, sha256, size, facts):
            with suppress(OSError):
                os.utime(path)
            return file
        if facts.st_nlink:
            with self._locked("room"), suppress(OSError):
                if path.stat().st_ino == facts.st_ino:
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
            with self._translated("cannot be written"):
                path.parent.mkdir(mode=0o700, exist_ok=True)
                os.replace(part, path)
            self._verified.add((sha256, os.fstat(file.fileno()).st_ino))
            file.seek(0)
        except BaseException as error:
            with suppress(OSError):
                part.unlink()
            with suppress(OSError):
                file.close()
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
                if path.is_file() and not (path.name.endswith(PART) and _removed(path)):
                    facts = path.stat()
                    found.append((facts.st_mtime, facts.st_size, path))
        return sorted(found)

    def _path(self, sha256: str) -> Path:
        return self._files / sha256[:2] / sha256

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with self._translated("cannot be locked"), _OPENING:
            lock = os.open(self._locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _OPEN.add(lock)
        try:
            with self._translated("cannot be locked"):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            with _OPENING:
                _OPEN.discard(lock)
                os.close(lock)

    @contextmanager
    def _translated(self, problem: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error_for(error, problem) from None

    def _error_for(self, error: OSError, problem: str) -> SkelpipeError:
        kind = NoRoomError if error.errno in FULL else SkelpipeError
        return kind(f"{self}: the cache {problem}: {error.strerror or error}")


# A forked process inherits the open lock files of its parent's threads. It would keep them locked, even against
# itself, after the parent has released them.
_OPEN: set[int] = set()
_OPENING = threading.Lock()


def _close_in_child() -> None:
    for lock in _OPEN:
        os.close(lock)
    _OPEN.clear()
    _OPENING.release()


os.register_at_fork(before=_OPENING.acquire, after_in_parent=_OPENING.release, after_in_child=_close_in_child)


def _create(path: Path) -> IO[bytes]:
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "rb+", buffering=0)


def _allocated(path: Path, size: int) -> IO[bytes]:
    """Create a file with all its blocks allocated, and lock it; where that fails nothing of it is left."""
    file = _create(path)
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        if size:
            os.posix_fallocate(file.fileno(), 0, size)
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
        if _removed(path):
            free += size
    return free


def _removed(path: Path) -> bool:
    """Remove a file that no process uses; return whether it was removed."""
    try:
        with open(path, "rb+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:
        return False
    return True
