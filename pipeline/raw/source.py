"""Where raw recordings come from: folders at any nesting."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelpipe.errors import RawError, UsageError

__all__ = ["RawFile", "TextBuffer", "find_raw_files"]

NEWLINE = 10
ALIGNMENT = 64  # numpy's own buffers may start 16 bytes into a page, which reads three times slower


@dataclass(frozen=True, order=True)
class RawFile:
    """One file under a `--raw` folder: its name inside it, where it lies, and its size in bytes."""

    relative: str
    path: str
    size: int


def find_raw_files(roots: Sequence[str | Path]) -> list[RawFile]:
    """List every file under the folders, links followed, in an order that no file system decides."""
    found: list[RawFile] = []
    for root in roots:
        if not Path(root).is_dir():
            raise UsageError(f"--raw {root}: there is no such folder")
        found.extend(sorted(_walk(Path(root))))
    return found


def _walk(root: Path) -> Iterator[RawFile]:
    seen: set[tuple[int, int]] = set()  # a link may lead back to a folder above it

    def failed(error: OSError) -> None:
        raise RawError(f"{error.filename}: cannot be listed: {error.strerror}")

    for folder, subfolders, files in os.walk(root, onerror=failed, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in files:
            path = os.path.join(folder, name)
            try:
                size = os.stat(path).st_size
            except OSError:
                size = -1  # a dangling link: reported when it is read, if it is a recording at all
            yield RawFile(os.path.relpath(path, root), path, size)


class TextBuffer:
    """A buffer that holds one file's bytes at a time and is used again for the next."""

    def __init__(self) -> None:
        self._room = np.empty(0, np.uint8)

    def read(self, path: str) -> np.ndarray:
        """Return the bytes of a file and one newline after them, uint8 [size+1].

        The array is a view of the buffer: it is overwritten by the next call.
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
