"""Files under a prefix of a bucket, S3 or Google Cloud Storage, through `pyarrow.fs`."""

import ctypes
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.storage.deadlines import LateError, within
from skelpipe.storage.exit_guard import leave_without_waiting
from skelpipe.storage.filesystem import CHUNK, checked_name, one_line
from skelpipe.storage.fork_guard import ForkGuard
from skelpipe.storage.retry import SILENT_SECONDS, SLOWEST, Line, TransientError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["BucketFilesystem", "Stores"]

T = TypeVar("T")

# What the client calls an error, and nothing around it: there stand names of files, and what the server says.
CODE = re.compile(r"AWS Error (.{1,60}?) during \w+ operation: |google::cloud::Status\((\w+): ")
REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|UNRECOGNIZED_CLIENT|TOKEN|EXPIRED|status 40[013]|PERMISSION"
    r"|UNAUTHENTICATED"
)
NO_BUCKET = re.compile(r"NO_SUCH_BUCKET")
MISSING = re.compile(r"RESOURCE_NOT_FOUND|NO_SUCH_KEY|status 404|NOT_FOUND")
HOPELESS = re.compile(  # code 103: no region, or an endpoint that is none
    r"status (3|4(?!08|29))\d\d|VALIDATION|INVALID_|MALFORMED|AUTHORIZATION_HEADER|code 103"
)

LOOKED = "neither in the URL nor in AWS_ACCESS_KEY_ID nor in ~/.aws"
UNREACHABLE = re.compile(r"curlCode: (6|7|35),")
NO_TLS = re.compile(r"curlCode: 35,.*wrong version number")
IN_CLIENT = ForkGuard()
READING, WRITING = 1, 5  # how often the client itself tries a request
CAREFUL = 1 << 20  # bytes of a request, once one has failed


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
            self._made[key] = _called(lambda: self._make(attempts))  # two threads may make one each: harmless
            leave_without_waiting(IN_CLIENT.is_busy)
        return self._made[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return Stores, (self._make,)


class BucketFilesystem:
    """A prefix of a bucket, whose files appear when their upload completes.

    `root` is bucket and prefix, `url` what to call it, `secrets` texts that the store's messages must not show,
    `keyless` whether no credentials were found.
    """

    is_local = False

    def __init__(
        self,
        stores: Stores,
        root: str,
        url: str,
        secrets: tuple[str, ...] = (),
        line: Line | None = None,
        *,
        keyless: bool = False,
    ) -> None:
        self._stores, self._root, self._url, self._secrets = stores, root, url, secrets
        self._keyless = keyless
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
        sizes = chain([chunk], repeat(min(chunk, CAREFUL)))
        yield from self._line.steadily(lambda start: self._stream_from(name, start, next(sizes)))

    def _stream_from(self, name: str, start: int, chunk: int) -> Iterator[bytes]:
        with self._told(name, "read"):
            file, size = self._opened(name, start)
            while start < size:
                piece = _called(lambda: file.read(chunk), SILENT_SECONDS + chunk / SLOWEST)
                if not piece:
                    raise TransientError(f"{self._url}/{name}: ended after {start:,} of {size:,} bytes")
                start += len(piece)
                yield piece

    def _opened(self, name: str, start: int) -> tuple[Any, int]:
        """Return a file that reads from `start` on, and its size."""
        store, path = self._stores.get(READING), self._path(name)

        def opened() -> tuple[Any, int]:
            file = store.open_input_file(path)
            file.seek(start)
            return file, file.size()

        return _called(opened, 2 * SILENT_SECONDS)

    def size(self, name: str) -> int | None:
        path = self._path(name)

        def ask() -> int | None:
            with self._told(name, "read"):
                store = self._stores.get(READING)
                info = _called(lambda: store.get_file_info(path), 2 * SILENT_SECONDS)
                return int(info.size) if info.is_file else None

        size = self._line.patiently(ask)
        if size is None:
            self._refuse_missing_bucket()
        return size

    def _refuse_missing_bucket(self) -> None:
        """Raise SkelpipeError where there is no bucket; whether there is one need not be ours to know."""
        from pyarrow import ArrowException
        from pyarrow.fs import FileType

        bucket = self._root.partition("/")[0]
        store = self._stores.get(READING)
        with suppress(OSError, ArrowException, LateError):
            if _called(lambda: store.get_file_info(bucket), 2 * SILENT_SECONDS).type == FileType.NotFound:
                raise SkelpipeError(f"{self._url}: there is no bucket {bucket}")

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        path = self._path(name)
        with self._told(name, "written"):
            store = self._stores.get(WRITING)
            file = _called(lambda: store.open_output_stream(path, compression=None))
            try:
                for chunk in chunks:
                    _called(partial(file.write, chunk))
                _called(file.close)
            except BaseException:
                _abandon(file)
                raise

    def remove(self, name: str) -> None:
        path = self._path(name)
        with self._told(name, "removed"):
            store = self._stores.get(WRITING)
            _called(lambda: store.delete_file(path))

    def names(self) -> list[str]:
        from pyarrow.fs import FileSelector

        def ask() -> list[str]:
            selector = FileSelector(self._root, recursive=True, allow_not_found=True)
            with self._told("", "listed"):
                store = self._stores.get(READING)
                found = _called(lambda: store.get_file_info(selector))
            return sorted(info.path[len(self._root) + 1 :] for info in found if info.is_file)

        return self._line.patiently(ask)

    def child(self, name: str) -> "BucketFilesystem":
        url = f"{self._url}/{name}"
        return BucketFilesystem(
            self._stores, self._path(name), url, self._secrets, self._line, keyless=self._keyless
        )

    def _path(self, name: str) -> str:
        return f"{self._root}/{checked_name(name)}"

    @contextmanager
    def _told(self, name: str, deed: str) -> Iterator[None]:
        """Turn the store's errors into ours; what may show secrets is not chained to them."""
        import pyarrow as pa

        where = f"{self._url}/{name}" if name else self._url
        try:
            yield
        except LateError:
            raise TransientError(f"{where}: cannot be {deed}: no whole answer came in time") from None
        except FileNotFoundError:
            raise SkelpipeError(f"{where}: cannot be {deed}: no such file or bucket") from None
        except (OSError, pa.ArrowException) as error:
            reason = one_line(error, self._secrets)
            raise _verdict(f"{where}: cannot be {deed}", reason, self._keyless) from None


def _called(deed: Callable[[], T], seconds: float | None = None) -> T:
    """Return what a call of the client returns, made where neither Ctrl-C nor a deadline has to wait for it."""

    def inside() -> T:
        with IN_CLIENT:
            return deed()

    return within(seconds, inside)


def _verdict(what: str, reason: str, keyless: bool) -> SkelpipeError:
    """Return the error for a store's answer: TransientError unless it would be the same next time."""
    found = list(CODE.finditer(reason))
    code, rest = (found[-1][1] or found[-1][2], reason[found[-1].end() :]) if found else ("", "")
    if NO_BUCKET.search(code):
        return SkelpipeError(f"{what}: there is no such bucket")
    if MISSING.search(code):
        return SkelpipeError(f"{what}: no such file or bucket")
    if REFUSED.search(code):
        why = f"no credentials were found ({LOOKED})" if keyless else "check the credentials and rights"
        return SkelpipeError(f"{what}: access is refused, {why}: {reason}")
    if HOPELESS.search(code):
        return SkelpipeError(f"{what}: {reason}")
    if NO_TLS.search(rest):
        return SkelpipeError(
            f"{what}: the server does not speak https; add scheme=http to the URL's options: {reason}"
        )
    return TransientError(f"{what}: {reason}", unreachable=UNREACHABLE.search(rest) is not None)


def _abandon(file: Any) -> None:
    """Keep an unfinished upload from ever completing.

    pyarrow has no abort, and both closing and collecting a stream publish what was written so far. One that is
    never collected does not; the store drops the parts it got by its rule for incomplete uploads.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))
