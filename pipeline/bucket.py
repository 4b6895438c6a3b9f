"""Files under a prefix of a bucket, S3 or Google Cloud Storage, through `pyarrow.fs`."""

import ctypes
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.forks import NoFork
from skelpipe.place import CHUNK, checked_name, one_line
from skelpipe.retry import Line, TransientError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["ObjectPlace", "Stores"]

REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|UNRECOGNIZED_CLIENT|TOKEN|EXPIRED|status 40[013]|PERMISSION"
)
MISSING = re.compile(r"RESOURCE_NOT_FOUND|NO_SUCH_(KEY|BUCKET)|status 404|NOT_FOUND")
HOPELESS = re.compile(r"status 4(?!08|29)\d\d|VALIDATION|INVALID_|MALFORMED|AUTHORIZATION_HEADER")

UNREACHABLE = re.compile(r"curlCode: [67],")
IN_CLIENT = NoFork()
READING, WRITING = 1, 5  # how often the client itself tries a request


class Stores:
    """The `pyarrow.fs` file system that `make` makes, anew in each process: one does not outlive a fork.

    `make(attempts)` gets how often the client itself tries a request: once where we read, which is tried again
    here, several times where it writes.
    """

    def __init__(self, make: Callable[[int], "FileSystem"]) -> None:
        self._make = make
        self._made: dict[tuple[int, int], FileSystem] = {}

    def get(self, attempts: int) -> "FileSystem":
        """Return the file system of this process; what `make` raises is raised here."""
        key = os.getpid(), attempts
        if key not in self._made:
            with IN_CLIENT:
                self._made[key] = self._make(attempts)  # two threads may make one each: harmless
        return self._made[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return Stores, (self._make,)


class ObjectPlace:
    """A prefix of a bucket, whose files appear when their upload completes.

    `root` is bucket and prefix, `url` what to call it, `secrets` texts that the store's messages must not show.
    """

    is_local = False

    def __init__(
        self, stores: Stores, root: str, url: str, secrets: tuple[str, ...] = (), line: Line | None = None
    ) -> None:
        self._stores, self._root, self._url, self._secrets = stores, root, url, secrets
        self._line = line or Line()

    def __str__(self) -> str:
        return self._url

    @property
    def local_path(self) -> Path:
        raise UsageError(f"{self}: a local folder is needed here: copy the dataset to one first")

    def read(self, name: str) -> bytes:
        return b"".join(self.stream(name))

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        checked_name(name)
        yield from self._line.steadily(lambda start: self._stream_from(name, start, chunk))

    def _stream_from(self, name: str, start: int, chunk: int) -> Iterator[bytes]:
        with self._told(name, "read"):
            with IN_CLIENT:
                file = self._stores.get(READING).open_input_file(self._path(name))
                size = file.size()
                file.seek(start)
            with file:
                while start < size:
                    with IN_CLIENT:
                        piece = file.read(chunk)
                    if not piece:
                        raise TransientError(f"{self._url}/{name}: ended after {start:,} of {size:,} bytes")
                    start += len(piece)
                    yield piece

    def size(self, name: str) -> int | None:
        path = self._path(name)

        def ask() -> int | None:
            with self._told(name, "read"), IN_CLIENT:
                info = self._stores.get(READING).get_file_info(path)
                return int(info.size) if info.is_file else None

        return self._line.patiently(ask)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        path = self._path(name)
        with self._told(name, "written"):
            with IN_CLIENT:
                file = self._stores.get(WRITING).open_output_stream(path, compression=None)
            try:
                for chunk in chunks:
                    with IN_CLIENT:
                        file.write(chunk)
                with IN_CLIENT:
                    file.close()
            except BaseException:
                _abandon(file)
                raise

    def remove(self, name: str) -> None:
        path = self._path(name)
        with self._told(name, "removed"), IN_CLIENT:
            self._stores.get(WRITING).delete_file(path)

    def names(self) -> list[str]:
        from pyarrow.fs import FileSelector

        def ask() -> list[str]:
            selector = FileSelector(self._root, recursive=True, allow_not_found=True)
            with self._told("", "listed"), IN_CLIENT:
                found = self._stores.get(READING).get_file_info(selector)
            return sorted(info.path[len(self._root) + 1 :] for info in found if info.is_file)

        return self._line.patiently(ask)

    def child(self, name: str) -> "ObjectPlace":
        return ObjectPlace(self._stores, self._path(name), f"{self._url}/{name}", self._secrets, self._line)

    def _path(self, name: str) -> str:
        return f"{self._root}/{checked_name(name)}"

    @contextmanager
    def _told(self, name: str, deed: str) -> Iterator[None]:
        """Turn the store's errors into ours; what may show secrets is not chained to them."""
        import pyarrow as pa

        where = f"{self._url}/{name}" if name else self._url
        try:
            yield
        except FileNotFoundError:
            raise SkelpipeError(f"{where}: cannot be {deed}: no such file or bucket") from None
        except (OSError, pa.ArrowException) as error:
            raise _verdict(f"{where}: cannot be {deed}", one_line(error, self._secrets)) from None


def _verdict(what: str, reason: str) -> SkelpipeError:
    """Return the error for a store's answer: TransientError unless it would be the same next time."""
    if MISSING.search(reason):
        return SkelpipeError(f"{what}: no such file or bucket")
    if REFUSED.search(reason):
        return SkelpipeError(f"{what}: access is refused, check the credentials and rights: {reason}")
    if HOPELESS.search(reason):
        return SkelpipeError(f"{what}: {reason}")
    return TransientError(f"{what}: {reason}", unreachable=UNREACHABLE.search(reason) is not None)


def _abandon(file: Any) -> None:
    """Keep an unfinished upload from ever completing.

    pyarrow has no abort, and both closing and collecting a stream publish what was written so far. One that is
    never collected does not; the store drops the parts it got by its rule for incomplete uploads.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))
