"""A file in memory that needs memory only for the parts that were written."""

import io
from typing import IO, Any

__all__ = ["SparseFile"]

PAGE = 1 << 16
Buffer = Any  # anything that memoryview accepts; collections.abc.Buffer needs Python 3.12


class SparseFile(io.RawIOBase):
    """A readable, writable, seekable file of any size; parts that were never written read as zeros."""

    def __init__(self) -> None:
        super().__init__()
        self._pages: dict[int, bytearray] = {}
        self._size = 0
        self._at = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None, /) -> int:
        self._size = self._at if size is None else size
        last, used = divmod(self._size, PAGE)
        self._pages = {number: page for number, page in self._pages.items() if number <= last}
        if last in self._pages:
            self._pages[last][used:] = bytes(PAGE - used)
        return self._size

    def readinto(self, buffer: Buffer, /) -> int:
        target = memoryview(buffer).cast("B")
        target = target[: max(0, self._size - self._at)]
        done = 0
        while done < len(target):
            number, start = divmod(self._at, PAGE)
            count = min(PAGE - start, len(target) - done)
            page = self._pages.get(number)
            target[done : done + count] = page[start : start + count] if page else bytes(count)
            done += count
            self._at += count
        return done

    def write(self, content: Buffer, /) -> int:
        source = memoryview(content).cast("B")
        done = 0
        while done < len(source):
            number, start = divmod(self._at, PAGE)
            count = min(PAGE - start, len(source) - done)
            page = self._pages.setdefault(number, bytearray(PAGE))
            page[start : start + count] = source[done : done + count]
            done += count
            self._at += count
        if done:
            self._size = max(self._size, self._at)
        return done

    def save(self, out: IO[bytes]) -> None:
        """Write content and size to `out`, new and empty; gaps stay gaps if the filesystem supports them."""
        for number, page in sorted(self._pages.items()):
            out.seek(number * PAGE)
            out.write(page)
        out.truncate(self._size)
