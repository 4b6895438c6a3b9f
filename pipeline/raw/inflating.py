"""Streams that may be compressed, inflated piece by piece and in proportion to what was read of them."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import IO, Any

from skelpipe.errors import RawError
from skelpipe.raw.gzipped import BZIP2, MAGIC, MOST_RATIO, XZ
from skelpipe.untrusted import shown

__all__ = ["inflating"]

PIECE = 1 << 20
GZIP_FORMAT = 31  # zlib's number of a gzip stream with header and CRC


def inflating(file: IO[bytes], where: str) -> Iterator[bytes]:
    """Yield the bytes of an open file, inflated where it is gzip, bzip2 or xz.

    Raises RawError, which begins with `where`, where it is damaged or cut off, or inflates to more than 200 times
    what was read of it.
    """
    piece = file.read(PIECE)
    if not piece.startswith((MAGIC, BZIP2, XZ)):
        while piece:
            yield piece
            piece = file.read(PIECE)
        return
    inflater, taken, given = _begun(piece), 0, 0
    while piece:
        taken += len(piece)
        while True:
            try:
                found = inflater.decompress(piece, PIECE)
            except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
                raise RawError(f"{where}: damaged: it does not inflate ({shown(error)})") from None
            given += len(found)
            if given > MOST_RATIO * taken + PIECE:
                raise RawError(f"{where}: inflates to more than {MOST_RATIO} times its size, refused")
            if found:
                yield found
            if inflater.eof:
                piece = inflater.unused_data
                if not piece.startswith((MAGIC, BZIP2, XZ)):  # padding, or nothing
                    break
                inflater = _begun(piece)  # the next of several streams
                continue
            piece = getattr(inflater, "unconsumed_tail", b"")
            if not piece and (len(found) < PIECE or getattr(inflater, "needs_input", False)):
                break
        piece = file.read(PIECE)
        if piece and inflater.eof:
            if not piece.startswith((MAGIC, BZIP2, XZ)):
                break
            inflater = _begun(piece)
    if not inflater.eof:
        raise RawError(f"{where}: damaged or cut off (in download?): the compressed stream ends early")


def _begun(start: bytes) -> Any:
    if start.startswith(MAGIC):
        return zlib.decompressobj(GZIP_FORMAT)
    return bz2.BZ2Decompressor() if start.startswith(BZIP2) else lzma.LZMADecompressor()
