"""A folder that keeps whole files by their sha256, for all processes of a node.

DIR/files/ab/ab12…   the files, each under its sha256, whole and verified before it has its name
DIR/files/*.part     what is being fetched
DIR/cards/…          cards by place, DIR/locks/… what processes agree by

A file is held by a shared lock on it as long as it is open or mapped: what is held is never removed to make room.
A holder or a fetcher that is killed loses its locks with its life. All of it is the user's own (0600, 0700).
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

CARD_SECONDS = 24 * 3600.0  # a kept card is taken without asking for this long after it was confirmed
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
BLOCK = 8 << 20


class NoRoomError(SkelpipeError):
    """There is no room for another file: the disk is full, or all that the cache holds is in use."""


class Cache:
    """Files of at most `size` bytes in all under `folder`, the least recently used removed first."""

    def __init__(self, folder: Path, size: int) -> None:
        """Make the folder ready; SkelpipeError where it cannot be used, is another user's or knows no locks."""
        self.folder, self.size = folder, size
        self._verified: set[tuple[str, int]] = set()  # sha256 and inode that this process has hashed
        self._files, self._cards, self._locks = (folder / name for name in ("files", "cards", "locks"))
        with self._told("cannot be used as a cache"):
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
        """Return a file, open and held, or None. One that is not what its name says is removed."""
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
            except OSError:  # a disk that fails is one more damage
                return False
            if hasher.hexdigest() != sha256:
                return False
            self._verified.add((sha256, facts.st_ino))
            file.seek(0)
        return True

    @contextmanager
    def filling(self, sha256: str) -> Iterator[None]:
        """Keep others from fetching the same file at the same time: after waiting, look again."""
        with self._locked(sha256[:2]):
            yield

    def store(self, sha256: str, size: int, write: Callable[[IO[bytes]], object]) -> IO[bytes]:
        """Have `write` write the file's verified bytes, and return it open and held.

        Raises NoRoomError, at most once the disk refuses a write, and whatever `write` raises; nothing is left
        of it then.
        """
        part = self._files / f"{sha256}.{secrets.token_hex(8)}{PART}"
        file = self._reserve(part, size)
        try:
            write(file)
            file.flush()
            path = self._path(sha256)
            with self._told("cannot be written"):
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
                raise self._refusal(error, "cannot be written") from None
            raise
        return file

    def card(self, key: str) -> bytes | None:
        """Return the card of a place, where it was confirmed not long ago."""
        path = self._cards / key
        try:
            if not 0 <= time.time() - path.stat().st_mtime < CARD_SECONDS:
                return None
            return path.read_bytes()
        except OSError:
            return None

    def keep_card(self, key: str, content: bytes) -> None:
        """Keep the card of a place, confirmed now; where that fails, it is asked for again next time."""
        part = self._cards / f"{key}.{secrets.token_hex(8)}{PART}"
        with suppress(OSError):
            try:
                with _create(part) as file:
                    file.write(content)
                os.replace(part, self._cards / key)
            except OSError:
                part.unlink()

    def drop_card(self, key: str) -> None:
        """Forget the card of a place: it is asked for again next time."""
        with suppress(OSError):
            (self._cards / key).unlink()

    def _reserve(self, part: Path, size: int) -> IO[bytes]:
        """Make room for a file and create it with all its blocks, so that a full disk is told before fetching."""
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
                    if error.errno not in FULL or not _freed(self._kept(), size):  # others fill the disk as well
                        raise self._refusal(error, "cannot be written") from None

    def _kept(self) -> list[tuple[float, int, Path]]:
        """Return when it was last used, size and path of each file, the oldest first; clear away what is dead."""
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
        with self._told("cannot be locked"), _OPENING:
            lock = os.open(self._locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _OPEN.add(lock)
        try:
            with self._told("cannot be locked"):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            with _OPENING:
                _OPEN.discard(lock)
                os.close(lock)

    @contextmanager
    def _told(self, deed: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refusal(error, deed) from None

    def _refusal(self, error: OSError, deed: str) -> SkelpipeError:
        kind = NoRoomError if error.errno in FULL else SkelpipeError
        return kind(f"{self}: the cache {deed}: {error.strerror or error}")


# A forked process has the lock files that threads of its parent hold open: it would keep them locked, for itself
# as well, after the parent let them go.
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
    """Create a file that has its blocks and is held; nothing is left of it where that fails."""
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
    """Remove files, the first of `kept` first, until `wanted` bytes are free; return how many are."""
    free = 0
    for _, size, path in kept:
        if free >= wanted:
            break
        if _removed(path):
            free += size
    return free


def _removed(path: Path) -> bool:
    """Remove a file that nobody holds; say whether that was done."""
    try:
        with open(path, "rb+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:
        return False
    return True
