"""Files under a prefix of a bucket, in S3 or Google Cloud Storage, through `pyarrow.fs`."""

import ctypes
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import MOST_READ
from skelpipe.memory import memory_in_use
from skelpipe.storage.deadlines import DeadlineError, result_of, run_into
from skelpipe.storage.filesystem import CHUNK, checked_name, one_line, read_whole
from skelpipe.storage.retry import SILENT_SECONDS, SLOWEST, Retries, TransientError
from skelpipe.storage.s3_calls import begin_client, call_client, exit_without_waiting

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["BucketFilesystem", "Clients"]

T = TypeVar("T")

# Only the client's own name of an error: the text around it holds file names and words of the server.
CODE = re.compile(r"AWS Error (.{1,60}?) during \w+ operation: |google::cloud::Status\((\w+): ")
REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|UNRECOGNIZED_CLIENT|TOKEN|EXPIRED|status 40[013]|PERMISSION"
    r"|UNAUTHENTICATED"
)
NO_BUCKET = re.compile(r"NO_SUCH_BUCKET")
MISSING = re.compile(r"RESOURCE_NOT_FOUND|NO_SUCH_KEY|status 404|NOT_FOUND")
PERMANENT = re.compile(  # code 103: no region, or an invalid endpoint
    r"status (3|4(?!08|29))\d\d|VALIDATION|INVALID_|MALFORMED|AUTHORIZATION_HEADER|code 103"
)

LOOKED = "neither in the URL nor in AWS_ACCESS_KEY_ID nor in ~/.aws"
UNREACHABLE = re.compile(r"curlCode: (6|7|35),")
NO_TLS = re.compile(r"curlCode: 35,.*wrong version number")
READING, WRITING = 1, 5  # attempts that the client itself makes
LISTING_SECONDS = 120.0  # a million names take 60 s where each page of 1,000 takes 60 ms
LISTING_BYTES = 1 << 30  # that this process may grow by while a bucket is listed, which is 3 million names
LOOK_SECONDS = 0.1  # between two looks at its memory
CAREFUL = 1 << 20  # bytes per request, once one has failed
RANGES = 2  # of one file requested at a time: one arrives while the one before it is hashed and written


class Clients:
    """The `pyarrow.fs` clients of one bucket, made by `make`; a forked process must create its own.

    `make(attempts)` is given how often the client itself tries a request: once for reads, which are repeated in
    this module, several times for writes.
    """

    def __init__(self, make: Callable[[int], "FileSystem"]) -> None:
        self._make = make
        self._made: dict[tuple[int, int], FileSystem] = {}

    def get(self, attempts: int) -> "FileSystem":
        """Return the client of this process; what `make` raises is raised here."""
        key = os.getpid(), attempts
        if key not in self._made:
            self._made[key] = call_client(lambda: self._make(attempts))  # two threads may make one each: harmless
            exit_without_waiting()
        return self._made[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return Clients, (self._make,)


class BucketFilesystem:
    """A prefix of a bucket. A file appears when its upload is complete.

    `root` is bucket and prefix, `url` its name in messages, `secrets` texts that must be removed from the store's
    messages, `no_credentials` whether none were found.
    """

    is_local = False

    def __init__(
        self,
        clients: Clients,
        root: str,
        url: str,
        secrets: tuple[str, ...] = (),
        retries: Retries | None = None,
        *,
        no_credentials: bool = False,
    ) -> None:
        self._clients, self._root, self._url, self._secrets = clients, root, url, secrets
        self._no_credentials = no_credentials
        self._retries = retries or Retries()

    def __str__(self) -> str:
        return self._url

    @property
    def local_path(self) -> Path:
        raise UsageError(f"{self}: a local folder is needed here: copy the dataset to one first")

    def read(self, name: str, most: int = MOST_READ) -> bytes:
        return read_whole(self.stream(name), most, f"{self}/{name}")

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        checked_name(name)
        sizes = chain([chunk], repeat(min(chunk, CAREFUL)))
        yield from self._retries.stream(lambda start: self._stream_from(name, start, next(sizes)))

    def _stream_from(self, name: str, start: int, chunk: int) -> Iterator[bytes]:
        """Yield the pieces from `start` on, in order; RANGES of them are asked for side by side."""
        with self._translated(name, "read"):
            file, size = self._opened(name)
            seconds = SILENT_SECONDS + chunk / SLOWEST
            asked: deque[tuple[int, Future[bytes]]] = deque()
            while start < size:
                next_one = asked[-1][0] + chunk if asked else start
                while len(asked) < RANGES and next_one < size:
                    read = partial(file.read_at, min(chunk, size - next_one), next_one)
                    asked.append((next_one, begin_client(read)))
                    next_one += chunk
                at, future = asked.popleft()
                piece = result_of(future, seconds)
                del future
                if not piece:
                    raise TransientError(f"{self._url}/{name}: ended after {start:,} of {size:,} bytes")
                if len(piece) < min(chunk, size - at):
                    asked.clear()  # they would leave a gap
                start += len(piece)
                yield piece

    def _opened(self, name: str) -> tuple[Any, int]:
        """Return an open file, and its size."""
        client, path = self._clients.get(READING), self._path(name)

        def opened() -> tuple[Any, int]:
            file = client.open_input_file(path)
            return file, file.size()

        return call_client(opened, 2 * SILENT_SECONDS)

    def size(self, name: str) -> int | None:
        path = self._path(name)

        def ask() -> int | None:
            with self._translated(name, "read"):
                client = self._clients.get(READING)
                info = call_client(lambda: client.get_file_info(path), 2 * SILENT_SECONDS)
                return int(info.size) if info.is_file else None

        size = self._retries.call(ask)
        if size is None:
            self._refuse_missing_bucket()
        return size

    def _refuse_missing_bucket(self) -> None:
        """Raise SkelpipeError where the bucket does not exist; nothing where asking for it is not allowed."""
        from pyarrow import ArrowException
        from pyarrow.fs import FileType

        bucket = self._root.partition("/")[0]
        client = self._clients.get(READING)
        with suppress(OSError, ArrowException, DeadlineError):
            if call_client(lambda: client.get_file_info(bucket), 2 * SILENT_SECONDS).type == FileType.NotFound:
                raise SkelpipeError(f"{self._url}: there is no bucket {bucket}")

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        path = self._path(name)
        with self._translated(name, "written"):
            client = self._clients.get(WRITING)
            file = call_client(lambda: client.open_output_stream(path, compression=None))
            try:
                for chunk in chunks:
                    call_client(partial(file.write, chunk))
                call_client(file.close)
            except BaseException:
                _abandon(file)
                raise

    def remove(self, name: str) -> None:
        path = self._path(name)
        with self._translated(name, "removed"):
            client = self._clients.get(WRITING)
            call_client(lambda: client.delete_file(path))

    def names(self) -> list[str]:
        from pyarrow.fs import FileSelector

        def ask() -> list[str]:
            selector = FileSelector(self._root, recursive=True, allow_not_found=True)
            with self._translated("", "listed"):
                client = self._clients.get(READING)
                found = self._bounded(lambda: client.get_file_info(selector))
            return sorted(info.path[len(self._root) + 1 :] for info in found if info.is_file)

        return self._retries.call(ask)

    def _bounded(self, listing: Callable[[], T]) -> T:
        """Return what a listing returns; SkelpipeError where it does not end.

        The client reads page after page in one call, which cannot be stopped: it goes on until this process ends.
        """
        begun, before = time.monotonic(), memory_in_use()
        calling: Future[T] = Future()
        arguments = (calling, lambda: call_client(listing))
        threading.Thread(target=run_into, args=arguments, name="skelpipe-listing", daemon=True).start()
        while True:
            with suppress(DeadlineError):
                return result_of(calling, LOOK_SECONDS)
            grown = memory_in_use() - before
            if grown > LISTING_BYTES:
                raise SkelpipeError(f"{self}: cannot be listed: its list grew past {grown >> 20:,} MiB")
            if time.monotonic() - begun > LISTING_SECONDS:
                raise SkelpipeError(f"{self}: cannot be listed: its list did not end in {LISTING_SECONDS:.0f} s")

    def child(self, name: str) -> "BucketFilesystem":
        url = f"{self._url}/{name}"
        return BucketFilesystem(
            self._clients, self._path(name), url, self._secrets, self._retries, no_credentials=self._no_credentials
        )

    def _path(self, name: str) -> str:
        return f"{self._root}/{checked_name(name)}"

    @contextmanager
    def _translated(self, name: str, done: str) -> Iterator[None]:
        """Turn errors of the store into ours, without a chain: the original text may show secrets."""
        import pyarrow as pa

        where = f"{self._url}/{name}" if name else self._url
        try:
            yield
        except DeadlineError:
            raise TransientError(f"{where}: cannot be {done}: no complete answer came in time") from None
        except FileNotFoundError:
            raise SkelpipeError(f"{where}: cannot be {done}: no such file or bucket") from None
        except (OSError, pa.ArrowException) as error:
            reason = one_line(error, self._secrets)
            raise _error_for(f"{where}: cannot be {done}", reason, self._no_credentials) from None


def _error_for(what: str, reason: str, no_credentials: bool) -> SkelpipeError:
    """Return the error for an answer of the store: TransientError unless the next attempt would get the same."""
    found = list(CODE.finditer(reason))
    code, rest = (found[-1][1] or found[-1][2], reason[found[-1].end() :]) if found else ("", "")
    if NO_BUCKET.search(code):
        return SkelpipeError(f"{what}: there is no such bucket")
    if MISSING.search(code):
        return SkelpipeError(f"{what}: no such file or bucket")
    if REFUSED.search(code):
        why = f"no credentials were found ({LOOKED})" if no_credentials else "check the credentials and rights"
        return SkelpipeError(f"{what}: access is refused, {why}: {reason}")
    if PERMANENT.search(code):
        return SkelpipeError(f"{what}: {reason}")
    if NO_TLS.search(rest):
        return SkelpipeError(
            f"{what}: the server does not speak https; add scheme=http to the URL's options: {reason}"
        )
    return TransientError(f"{what}: {reason}", unreachable=UNREACHABLE.search(rest) is not None)


def _abandon(file: Any) -> None:
    """Make sure that an unfinished upload never becomes a file.

    pyarrow cannot abort an upload, and a stream that is closed or garbage-collected publishes what was written so
    far. So the stream is never collected; the store deletes its parts by its rule for incomplete uploads.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))
