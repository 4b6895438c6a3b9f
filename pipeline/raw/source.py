"""Where raw recordings come from: folders at any nesting, and .zip archives as they are."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.archive import Member, list_members, read_member

__all__ = ["RawFile", "TextBuffer", "find_raw_files"]

NEWLINE = 10
ALIGNMENT = 64  # numpy's own buffers may start 16 bytes into a page, which reads three times slower


class RawFile(NamedTuple):
    """One file of a `--raw` place: its name inside it, the path messages show, and its size in bytes.

    `changed` is when it was last written, in ns. Inside an archive `member` says where, `path` is that of the
    archive followed by the member's name, and the time is the archive's.
    """

    relative: str
    path: str
    size: int
    changed: int = 0
    archive: str | None = None
    member: Member | None = None


def find_raw_files(places: Sequence[str | Path]) -> list[RawFile]:
    """List every file in the folders and archives, links followed, in an order that no file system decides.

    Archives inside the folders are looked into as well. Raises UsageError for a place that is neither, and
    RawError for a folder or archive that cannot be read.
    """
    found: list[RawFile] = []
    for place in map(Path, places):
        if place.is_dir():
            files = _walk(place)
        elif place.is_file() and _is_archive(place.name):
            files = _members(place, place.name)
        else:
            wrong = (
                "is neither a folder nor a .zip archive"
                if place.exists()
                else "there is no such folder or archive"
            )
            raise UsageError(f"--raw {place}: {wrong}")
        found.extend(sorted(files, key=lambda file: (file.relative, file.path)))
    return found


def _walk(root: Path) -> Iterator[RawFile]:
    seen: set[tuple[int, int]] = set()  # a link may lead back to a folder above it
    inside = [""]
    while inside:
        within = inside.pop()
        try:
            status = os.stat(root / within)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / within) as entries:
                for entry in entries:
                    relative = f"{within}{entry.name}"
                    if entry.is_dir():
                        inside.append(f"{relative}/")
                    elif _is_archive(entry.name):
                        yield from _members(Path(entry.path), relative)
                    elif file := _regular(entry, relative):
                        yield file
        except OSError as error:
            raise RawError(f"{root / within}: cannot be listed: {error.strerror}") from None


def _regular(entry: os.DirEntry[str], relative: str) -> RawFile | None:
    try:
        status = entry.stat()
    except OSError:  # a dangling link: reported when it is read, if it is a recording at all
        return RawFile(relative, entry.path, -1)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
        return None
    return RawFile(relative, entry.path, status.st_size, status.st_mtime_ns)


def _is_archive(name: str) -> bool:
    return name.lower().endswith(".zip")


def _members(archive: Path, relative: str) -> Iterator[RawFile]:
    changed = archive.stat().st_mtime_ns
    for name, member in list_members(archive):
        yield RawFile(f"{relative}/{name}", f"{archive}/{name}", member.size, changed, str(archive), member)


class TextBuffer:
    """A buffer that holds one file's bytes at a time and is used again for the next."""

    def __init__(self) -> None:
        self._room = np.empty(0, np.uint8)

    def read_raw(self, file: RawFile) -> np.ndarray:
        """Return what `read` does, for a file that may lie in an archive."""
        if file.member is None or file.archive is None:
            return self.read(file.path)
        content = read_member(file.archive, file.member, file.path)
        text = self._aligned(len(content) + 1)
        text[:-1] = np.frombuffer(content, np.uint8)
        text[-1] = NEWLINE
        return text

    def read(self, path: str) -> np.ndarray:
        """Return the bytes of a file and one newline after them, uint8 [size+1].

        The array is a view of the buffer: it is overwritten by the next call. RawError names the file.
        """
        try:
            with open(path, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                text = self._aligned(size + 1)
                got = 0
                while got < size:
                    count = file.readinto(text.data[got:size])
                    if not count:
                        raise RawError(f"{path}: the file shrank from {size} to {got} bytes while it was read")
                    got += count
        except OSError as error:
            raise RawError(f"{path}: cannot be read: {error.strerror}") from None
        text[size] = NEWLINE
        return text

    def _aligned(self, size: int) -> np.ndarray:
        if len(self._room) < size + ALIGNMENT:
            self._room = np.empty(max(2 * size, 1 << 20) + ALIGNMENT, np.uint8)
        offset = -self._room.ctypes.data % ALIGNMENT
        return self._room[offset : offset + size]
