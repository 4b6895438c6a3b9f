"""Find and read raw files, in folders at any depth and in .zip and .tar archives without unpacking them."""

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.archive import Member, inside, list_members, read_member
from skelpipe.raw.gzipped import GZIP, MOST_BYTES, gunzip
from skelpipe.raw.tar_archive import TAR_SUFFIXES, TarMember, list_tar, read_tar_member

__all__ = ["ARCHIVES", "HASHES", "RawFile", "RawFiles", "TextBuffer", "find_raw_files", "listing_hash"]

ARCHIVES = (".zip", *TAR_SUFFIXES)
# What macOS and Windows write beside people's files; an archive packed on a Mac holds `__MACOSX/._NAME` per NAME.
CLUTTER_FOLDER = "__MACOSX"
CLUTTER_START = "._"
CLUTTER = frozenset((".ds_store", "thumbs.db", "desktop.ini"))

NEWLINE = 10
# The hashes of raw files by name. They tell a file that changed, not one that somebody forged: XXH128 takes a
# twentieth of the time of sha256, which datasets made by earlier commits have.
HASHES: dict[str, Callable[..., Any]] = {"xxh128": xxhash.xxh3_128, "sha256": hashlib.sha256}
ALIGNMENT = 64  # bytes; numpy's buffers may start 16 bytes into a page, and reading into them is 3 times slower


class RawFile(NamedTuple):
    """One file below a `--raw` folder or archive: its name inside it, its path in messages, its size in bytes.

    `changed` is the time of its last change, in ns. For a file inside an archive, `member` is its position in the
    file `archive`, `path` is the archive's path followed by the member's name, and `changed` is the time of the
    archive. Where each frame is a file of its own, `parts` are numbers and files of a recording
    (`skelpipe.raw.frame_files`). For one recording of a file that holds many, `item` is the name of the
    array or list inside it and the position there.
    """

    relative: str
    path: str
    size: int
    changed: int = 0
    archive: str | None = None
    member: Member | TarMember | None = None
    parts: tuple[tuple[int, "RawFile"], ...] = ()
    item: tuple[str, int] | None = None

    @property
    def named(self) -> str:
        """The path that holds the recording's name; joined frames are named inside `--raw` only."""
        return self.relative if self.parts else self.path

    @property
    def place(self) -> str:
        """The file for messages, and the place in it of one recording of many."""
        return self.path if self.item is None else f"{self.path}: {self.item[0]}[{self.item[1]}]"


class RawFiles(list[RawFile]):
    """Raw files; `clutter` is the number of files left out that macOS or Windows wrote beside them."""

    clutter = 0


def find_raw_files(paths: Sequence[str | Path], is_whole: Callable[[Path], bool] = lambda _: False) -> RawFiles:
    """List every file in the folders and archives, links followed, in the order of `paths` and of file names.

    Archives inside the folders are listed too, except those that `is_whole` keeps as one file; what macOS and
    Windows write beside files is counted, not listed. Raises UsageError for a path that is neither a folder nor an
    archive, and RawError for a folder or archive that cannot be read.
    """
    found = RawFiles()
    for path in map(Path, paths):
        if path.is_dir():
            files = _walk(path, is_whole)
        elif path.is_file() and _is_archive(path.name):
            files = _members(path, path.name)
        else:
            wrong = (
                f"is neither a folder nor an archive ({', '.join(ARCHIVES)})"
                if path.exists()
                else "there is no such folder or archive"
            )
            raise UsageError(f"--raw {path}: {wrong}")
        listed = list(files)
        kept = [file for file in listed if not _is_clutter(file.relative)]
        found.clutter += len(listed) - len(kept)
        found.extend(sorted(kept, key=lambda file: (file.relative, file.path)))
    return found


def _is_clutter(relative: str) -> bool:
    *folders, name = relative.split("/")
    return name.startswith(CLUTTER_START) or name.lower() in CLUTTER or CLUTTER_FOLDER in folders


def _walk(root: Path, is_whole: Callable[[Path], bool]) -> Iterator[RawFile]:
    seen: set[tuple[int, int]] = set()  # a link may point to a folder above it
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
                    elif _is_archive(entry.name) and not _is_clutter(relative) and not is_whole(Path(entry.path)):
                        yield from _members(Path(entry.path), relative)
                    elif file := _regular(entry, relative):
                        yield file
        except OSError as error:
            raise RawError(f"{root / within}: cannot be listed: {error.strerror}") from None


def _regular(entry: os.DirEntry[str], relative: str) -> RawFile | None:
    try:
        status = entry.stat()
    except OSError:  # a dangling link: reported when it is read, if it is a recording
        return RawFile(relative, entry.path, -1)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait forever
        return None
    return RawFile(relative, entry.path, status.st_size, status.st_mtime_ns)


def _is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVES)


def _members(archive: Path, relative: str) -> Iterator[RawFile]:
    changed = archive.stat().st_mtime_ns
    holder = archive
    members: Iterable[tuple[str, Member | TarMember]]
    if archive.name.lower().endswith(TAR_SUFFIXES):
        holder, members = list_tar(archive)
    else:
        members = list_members(archive)
    for said, member in members:
        name = inside(said, archive)
        yield RawFile(f"{relative}/{name}", f"{archive}/{name}", member.size, changed, str(holder), member)


def listing_hash(files: Iterable[tuple[str, str]], kind: str = "xxh128") -> str:
    """Return one hash for several files, given as name and hash, of kind `kind` in `HASHES`.

    It is the hash of the lines that `xxhsum -H2`, or `sha256sum`, prints for them.
    """
    listing = "".join(f"{each}  {name}\n" for name, each in files)
    return str(HASHES[kind](listing.encode()).hexdigest())


class TextBuffer:
    """A buffer that holds the bytes of one file at a time and is reused for the next file.

    With `hashing`, one of `HASHES`, `hash` is that of the file, or archive member, that `read_raw` read last, as
    it is stored.
    """

    def __init__(self, *, hashing: str = "") -> None:
        self._room = np.empty(0, np.uint8)
        self._hashing = hashing
        self.hash = ""

    def read_raw(self, file: RawFile) -> np.ndarray:
        """Like `read`, for a file that may be inside an archive, or be kept as `.gz`."""
        packed = file.path.lower().endswith(GZIP)
        if file.member is None or file.archive is None:
            text = self.read(file.path)
            self._hash(text[:-1].data)
            if not packed:
                return text
            return self._filled(gunzip(bytes(text[:-1]), file.path))
        elif isinstance(file.member, TarMember):
            content = read_tar_member(file.archive, file.member, file.path)
        else:
            content = read_member(file.archive, file.member, file.path)
        self._hash(content)
        return self._filled(gunzip(content, file.path) if packed else content)

    def _hash(self, content: bytes | memoryview) -> None:
        if self._hashing:
            self.hash = HASHES[self._hashing](content).hexdigest()

    def read(self, path: str) -> np.ndarray:
        """Return the bytes of a file followed by one newline, uint8 [size+1].

        The array is a view of the buffer; the next call overwrites it. A RawError names the file.
        """
        try:
            with open(path, "rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):  # a pipe does not tell its size
                    content = io.BufferedReader(file).read(MOST_BYTES + 1)
                    if len(content) > MOST_BYTES:
                        raise RawError(f"{path}: is longer than {MOST_BYTES} bytes: no recording is")
                    return self._filled(content)
                size = status.st_size
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

    def _filled(self, content: bytes) -> np.ndarray:
        text = self._aligned(len(content) + 1)
        text[:-1] = np.frombuffer(content, np.uint8)
        text[-1] = NEWLINE
        return text

    def _aligned(self, size: int) -> np.ndarray:
        if len(self._room) < size + ALIGNMENT:
            self._room = np.empty(max(2 * size, 1 << 20) + ALIGNMENT, np.uint8)
        offset = -self._room.ctypes.data % ALIGNMENT
        return self._room[offset : offset + size]
