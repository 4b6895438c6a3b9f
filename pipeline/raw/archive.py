"""Recordings inside .zip archives, read without unpacking: no file is ever written under a member's name.

Python's zipfile reads the central directory; isal inflates each member in one call.
"""

import os
import re
import struct
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from isal import isal_zlib

from skelpipe.errors import RawError
from skelpipe.files import read_at
from skelpipe.raw.gzipped import MOST_BYTES, MOST_RATIO
from skelpipe.untrusted import described, shown

__all__ = ["Member", "inside", "list_members", "read_member"]

LOCAL_HEADER = struct.Struct("<4s5H3L2H")
LOCAL_MAGIC = b"PK\x03\x04"
PLAIN = re.compile(r"[^./\\:][^/\\:]*(/[^./\\:][^/\\:]*)*")  # a name that is a path inside, as it is
ENCRYPTED = 1
RAW_DEFLATE = -15
INFLATE_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub declares an instance


class Member(NamedTuple):
    """The position of one member in its archive, and the size and CRC that it must inflate to."""

    header: int
    stored: int
    size: int
    crc: int
    method: int
    encrypted: bool


def list_members(archive: Path) -> Iterator[tuple[str, Member]]:
    """Yield the name and the `Member` of every file in the archive, in the order of its directory.

    Raises RawError for a file that is no archive or was cut off.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
            room = archive.stat().st_size
    except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise RawError(
            f"{archive}: cannot be read as a .zip archive (cut off in download?): {shown(error)}"
        ) from None
    if sum(info.compress_size for info in infos) > room:
        raise RawError(f"{archive}: its members are larger than the archive: they lie over each other, refused")
    for info in infos:
        if info.filename.endswith("/"):
            continue
        member = Member(
            info.header_offset,
            info.compress_size,
            info.file_size,
            info.CRC,
            info.compress_type,
            bool(info.flag_bits & ENCRYPTED),
        )
        yield info.filename, member


def inside(name: str, archive: Path) -> str:
    """Return a member's name as a path inside its archive; RawError for one that leads outside."""
    if PLAIN.fullmatch(name):  # of a hundred thousand members nearly all: pathlib takes ten times as long
        return name
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise RawError(f"{archive}: member {described(name)} leads outside of the archive: it is refused")
    return str(path)


def read_member(archive: str, member: Member, where: str) -> bytes:
    """Return a member's content, checked against its size and CRC; a RawError starts with `where`."""
    if member.encrypted:
        raise RawError(f"{where}: is encrypted; unpack the archive with its password first")
    if member.size > MOST_BYTES or member.size > MOST_RATIO * max(member.stored, 1):
        raise RawError(
            f"{where}: {member.stored} bytes say they inflate to {member.size}: no recording does, refused"
        )
    try:
        file = _open(archive, os.stat(archive).st_mtime_ns)
        header = read_at(file, LOCAL_HEADER.size, member.header)
        if len(header) < LOCAL_HEADER.size or not header.startswith(LOCAL_MAGIC):
            raise RawError(f"{where}: the archive is damaged: no member starts where its directory says")
        *_, name_size, extra_size = LOCAL_HEADER.unpack(header)
        start = member.header + LOCAL_HEADER.size + name_size + extra_size
        content = read_at(file, member.stored, start)
    except OSError as error:
        raise RawError(f"{where}: cannot be read: {error.strerror}") from None
    if len(content) == member.stored and member.method == zipfile.ZIP_DEFLATED:
        content = _inflate(content, member.size, where)
    elif member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RawError(f"{where}: compression method {member.method} is not read; pack it as deflate")
    if len(content) != member.size or isal_zlib.crc32(content) != member.crc:
        raise RawError(f"{where}: damaged: its size or CRC is not what the archive says")
    return content


def _inflate(content: bytes, size: int, where: str) -> bytes:
    """Inflate at most one byte more than `size`, whatever the stream holds."""
    inflater = isal_zlib.decompressobj(RAW_DEFLATE)
    try:
        return inflater.decompress(content, size + 1)
    except INFLATE_ERROR as error:
        raise RawError(f"{where}: damaged: it does not inflate ({shown(error)})") from None


@lru_cache(maxsize=4)
def _open(archive: str, _changed: int) -> FileIO:
    """Keep archives open from one member to the next; an archive that has changed on disk is opened again."""
    return open(archive, "rb", buffering=0)
