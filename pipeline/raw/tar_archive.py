"""Recordings inside .tar and .tar.gz archives: listed in one pass, then read at their offsets.

Python's tarfile reads the headers; no file is ever written under a member's name.
"""

import os
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from skelpipe.errors import RawError
from skelpipe.files import read_at
from skelpipe.raw.gzipped import MOST_BYTES, inflated_archive
from skelpipe.untrusted import described, shown

__all__ = ["TAR_SUFFIXES", "BoundedTarInfo", "TarMember", "TarPieces", "list_tar", "read_tar_member"]

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
BLOCK = 512
MOST_BEHIND = 100  # reads behind the end of a stream; tarfile needs a few
MOST_EXTENSION = 1 << 20  # bytes of a name or of pax records; names have 4,096 at most
EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class BoundedTarInfo(tarfile.TarInfo):
    """A header whose extensions are short: tarfile reads long names and pax records whole, whatever their size."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in EXTENSIONS and not 0 <= self.size <= MOST_EXTENSION:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        try:
            found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        except (ValueError, TypeError, AttributeError, IndexError, OverflowError):  # tarfile's own, at odd records
            raise tarfile.ReadError("a header is damaged") from None
        return found


class TarPieces:
    """A file for `tarfile` to read as a stream; EOFError for reading on and on behind its end.

    `tarfile` would skip a member that is said to be of a petabyte in reads of 10 kB, also where nothing is left.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._held, self._at, self._behind = pieces, b"", 0, 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end."""
        if self._at == len(self._held):
            self._held, self._at = next(self._pieces, b""), 0
            self._behind += not self._held
            if self._behind > MOST_BEHIND:
                raise EOFError("a member is longer than the file")
        piece = self._held[self._at : self._at + size]
        self._at += len(piece)
        return piece


class TarMember(NamedTuple):
    """Where the content of one member lies in its archive (or in the file that a `.tar.gz` was inflated into)."""

    offset: int
    size: int


def list_tar(archive: Path) -> tuple[Path, Iterator[tuple[str, TarMember]]]:
    """Return the file that holds the members, and name and position of every regular file in the archive.

    For a `.tar.gz` that file is a temporary one, see `inflated_archive`. Links and devices inside are no files of
    recordings. Raises RawError for a file that is no archive or was cut off.
    """
    try:
        plain = archive if archive.suffix.lower() == ".tar" else inflated_archive(archive)
    except OSError as error:
        raise RawError(f"{archive}: cannot be read: {error.strerror or error}") from None
    return plain, _members(plain, archive)


def _members(plain: Path, archive: Path) -> Iterator[tuple[str, TarMember]]:
    size = plain.stat().st_size
    try:
        with tarfile.open(plain, "r:", errorlevel=2, tarinfo=BoundedTarInfo) as opened:
            while (info := opened.next()) is not None:
                if info.size < 0 or opened.offset <= info.offset:  # older Pythons would read it again, for ever
                    raise RawError(f"{archive}: damaged: {described(info.name)} has {info.size} bytes")
                opened.members = []  # type: ignore[attr-defined]  # it keeps them all otherwise
                if info.isreg() and not info.issparse():
                    if info.offset_data + info.size > size:
                        raise RawError(f"{archive}: ends inside {described(info.name)} (cut off in download?)")
                    yield info.name, TarMember(info.offset_data, info.size)
            end = opened.offset
        with open(plain, "rb") as file:
            file.seek(end)
            block = file.read(BLOCK)
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        raise RawError(
            f"{archive}: cannot be read as a .tar archive (cut off in download?): {shown(error)}"
        ) from None
    if block.strip(b"\0"):
        raise RawError(f"{archive}: damaged: no member starts at byte {end}, where the one before ends")
    if len(block) < BLOCK:
        raise RawError(f"{archive}: ends without a tar's end mark (cut off in download?)")


def read_tar_member(archive: str, member: TarMember, where: str) -> bytes:
    """Return a member's content; a RawError starts with `where`."""
    if member.size > MOST_BYTES:
        raise RawError(f"{where}: {member.size} bytes: no recording is so long, refused")
    try:
        content = read_at(_open(archive, os.stat(archive).st_mtime_ns), member.size, member.offset)
    except OSError as error:
        raise RawError(f"{where}: cannot be read: {error.strerror}") from None
    if len(content) != member.size:
        raise RawError(f"{where}: the archive became shorter while it was read")
    return content


@lru_cache(maxsize=4)
def _open(archive: str, _changed: int) -> FileIO:
    """Keep archives open from one member to the next; an archive that has changed on disk is opened again."""
    return open(archive, "rb", buffering=0)
