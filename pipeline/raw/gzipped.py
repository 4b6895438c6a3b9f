"""Files kept as `.gz`, and archives kept as `.tar.gz`: inflated within bounds, whatever they say of themselves."""

import atexit
import bz2
import contextlib
import errno
import lzma
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

from isal import isal_zlib

from skelpipe.errors import RawError
from skelpipe.locks import keep, remove_unused
from skelpipe.untrusted import shown

__all__ = ["GZIP", "MOST_BYTES", "MOST_RATIO", "gunzip", "inflated_archive", "is_compressed"]

GZIP = ".gz"
MAGIC = b"\x1f\x8b"
BZIP2, XZ = b"BZh", b"\xfd7z"  # how such files start
MOST_BYTES = 1 << 28  # of one inflated recording; the longest have about ten million
MOST_RATIO = 200  # inflated to stored size; text of numbers has a ratio of 3 to 10
PIECE = 1 << 20
FRESH = 60  # seconds; a file so new may not have been locked yet
PREFIX = "skelpipe-inflated-"
GZIP_FORMAT = 31  # zlib's number of a gzip stream with header and CRC
ERRORS: tuple[type[Exception], ...] = (isal_zlib.error, zlib.error, OSError, EOFError)  # type: ignore[assignment]


def gunzip(content: bytes, where: str) -> bytes:
    """Return the content of a `.gz` file, of one or more gzip members; a RawError starts with `where`.

    Bytes that are no gzip are returned as they are: some browsers inflate a file and keep its name.
    """
    if not content.startswith(MAGIC):
        return content
    most = min(MOST_BYTES, MOST_RATIO * len(content))
    pieces, size = [], 0
    while content.startswith(MAGIC):
        inflater = isal_zlib.decompressobj(GZIP_FORMAT)
        try:
            pieces.append(inflater.decompress(content, most - size + 1))
        except ERRORS as error:
            raise RawError(f"{where}: damaged: it does not inflate ({shown(error)})") from None
        size += len(pieces[-1])
        if size > most:
            raise RawError(f"{where}: inflates to more than {most} bytes: no recording does, refused")
        if not inflater.eof:
            raise RawError(f"{where}: the gzip stream ends early (cut off in download?)")
        content = inflater.unused_data
    if content.strip(b"\0"):  # tapes and some programs pad with zeros
        raise RawError(f"{where}: damaged: {len(content)} bytes follow the gzip stream")
    return b"".join(pieces)


def is_compressed(path: Path) -> bool:
    """Say whether a file starts as one of gzip, bzip2 or xz does."""
    with open(path, "rb") as file:
        return file.read(len(XZ)).startswith((MAGIC, BZIP2, XZ))


def inflated_archive(archive: Path) -> Path:
    """Return the path of a temporary file with the content of a `.tar.gz`, `.bz2` or `.xz`, inflated in one pass.

    Every process of this machine can read members there at their offsets. The file is removed when this process
    ends; what a killed process left is removed by the next one. Raises RawError if the archive is damaged, if it
    inflates to more than 200 times its size, or if the temporary folder has no room.
    """
    status = archive.stat()
    return _inflated(archive, status.st_size, status.st_mtime_ns)


@cache
def _inflated(archive: Path, _size: int, _changed: int) -> Path:
    _remove_leftovers()
    handle, name = tempfile.mkstemp(prefix=PREFIX)
    keep(handle)  # as long as this process lives
    atexit.register(_remove, name, handle)
    try:
        for piece in _inflate(archive):
            _write(handle, piece)
    except OSError as error:
        _remove(name, handle)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RawError(
                f"{archive}: there is no room to inflate it in {tempfile.gettempdir()}: set TMPDIR to a larger"
                " folder, or unpack it"
            ) from None
        raise RawError(f"{archive}: cannot be inflated: {error.strerror or error}") from None
    except RawError:
        _remove(name, handle)
        raise
    return Path(name)


def _write(handle: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(handle, left) :]


def _inflate(archive: Path) -> Iterator[bytes]:
    with open(archive, "rb") as file:
        start = file.read(len(XZ))
    if start not in (BZIP2, XZ):
        yield from _inflate_gzip(archive)
        return
    total, most = 0, MOST_RATIO * archive.stat().st_size
    try:
        with bz2.open(archive) if start == BZIP2 else lzma.open(archive) as unpacked:
            while piece := unpacked.read(PIECE):
                total += len(piece)
                if total > most:
                    raise RawError(f"{archive}: inflates to more than {MOST_RATIO} times its size, refused")
                yield piece
    except (lzma.LZMAError, ValueError, EOFError) as error:
        raise RawError(f"{archive}: damaged: it does not inflate ({shown(error)})") from None


def _inflate_gzip(archive: Path) -> Iterator[bytes]:
    inflater, total, ended = isal_zlib.decompressobj(GZIP_FORMAT), 0, False
    most = MOST_RATIO * archive.stat().st_size
    with open(archive, "rb") as file:
        while piece := file.read(PIECE):
            while piece:
                if ended:  # the next of several gzip members, or zeros at the end
                    if not piece.startswith(MAGIC[:1]):
                        if piece.strip(b"\0"):
                            raise RawError(f"{archive}: damaged: other bytes follow the gzip stream")
                        break
                    inflater, ended = isal_zlib.decompressobj(GZIP_FORMAT), False
                try:
                    found = inflater.decompress(piece, 16 * PIECE)
                except ERRORS as error:
                    raise RawError(f"{archive}: damaged: it does not inflate ({shown(error)})") from None
                total += len(found)
                if total > most:
                    raise RawError(f"{archive}: inflates to more than {MOST_RATIO} times its size, refused")
                yield found
                ended = inflater.eof
                piece = inflater.unused_data if ended else inflater.unconsumed_tail
    while not ended and (found := inflater.decompress(b"", 16 * PIECE)):  # what the limit held back
        total += len(found)
        yield found
        ended = inflater.eof
    if not ended:
        raise RawError(f"{archive}: the gzip stream ends early (cut off in download?)")


def _remove(name: str, handle: int) -> None:
    for step in (partial(os.close, handle), partial(os.unlink, name)):  # in this order: Windows keeps open files
        with contextlib.suppress(OSError):
            step()


def _remove_leftovers() -> None:
    """Remove inflated archives whose process has ended."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= FRESH:
                remove_unused(path)
