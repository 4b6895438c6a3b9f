"""Files under a web address, read only: `http://` and `https://` through urllib3.

Messages are our own: those of urllib3 repeat the whole URL, and its query may be a signature.
"""

import os
import re
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import MOST_READ
from skelpipe.storage.deadlines import DeadlineError, StoppedError, call_until_stopped, call_within
from skelpipe.storage.filesystem import CHUNK, checked_name, read_whole
from skelpipe.storage.retry import CONNECT_SECONDS, SILENT_SECONDS, MinimumSpeed, Retries, TransientError
from skelpipe.untrusted import whole

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

__all__ = ["Address", "HttpFilesystem"]

REDIRECTS = {301, 302, 303, 307, 308}
MOST_REDIRECTS = 5
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # statuses that may change
STEP = 512 << 10  # bytes read at a time: at most so many are lost when a connection breaks
CONNECTIONS = 8  # kept open to one server


@dataclass(frozen=True)
class Address:
    """A web address in parts. `query` and `user` (name, password) are secrets: they are sent to its host only."""

    scheme: str
    host: str
    path: str
    query: str = ""
    user: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.path}".rstrip("/")

    def __repr__(self) -> str:
        return f"Address({self})"

    def child(self, name: str) -> "Address":
        return replace(self, path=f"{self.path}/{checked_name(name)}".lstrip("/"))

    @property
    def target(self) -> str:
        """The URL of the request, complete."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.host}/{quote(self.path)}{query}"


class HttpFilesystem:
    """The files below a web address, for reading. A web server does not list its files."""

    is_local = False

    def __init__(self, address: Address, retries: Retries | None = None) -> None:
        self._address = address
        self._retries = retries or Retries()
        self._pools: dict[int, PoolManager] = {}  # by process: a fork must not share connections

    def __str__(self) -> str:
        return str(self._address)

    def __reduce__(self) -> tuple[Any, ...]:
        return HttpFilesystem, (self._address,)

    @property
    def local_path(self) -> Path:
        raise UsageError(f"{self}: a local folder is needed here: copy the dataset to one first")

    def read(self, name: str, most: int = MOST_READ) -> bytes:
        return read_whole(self.stream(name), most, f"{self}/{name}")

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        address = self._address.child(name)
        seen: list[tuple[str | None, int | None]] = []  # version and size of the file, once an answer has them
        yield from self._retries.stream(lambda start: self._stream_from(address, start, chunk, seen))

    def _stream_from(
        self, address: Address, start: int, chunk: int, seen: list[tuple[str | None, int | None]]
    ) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._answer("GET", address, headers) as answer:
            version = answer.headers.get("ETag"), _whole_size(answer)
            if seen and version != seen[0]:
                raise SkelpipeError(f"{address}: was changed on the server while it was read")
            seen[:] = [version]
            first = _first_byte(answer)
            if first is None or first > start:
                raise SkelpipeError(f"{address}: the server sends another part than was asked for")
            skip = start - first
            speed = MinimumSpeed(f"{address}: cannot be read")
            while piece := _piece(answer, min(chunk, STEP), speed):
                if skip < len(piece):
                    yield piece[skip:]
                skip = max(0, skip - len(piece))

    def size(self, name: str) -> int | None:
        address = self._address.child(name)

        def ask() -> int | None:
            with self._answer("HEAD", address, {}, {403, 404, 405, 410, 501}) as answer:
                if answer.status in (404, 410):
                    return None
                if answer.status == 200 and (size := _whole_size(answer)) is not None:
                    return size
            with self._answer("GET", address, {"Range": "bytes=0-0"}, {404, 410, 416}) as answer:
                if answer.status in (404, 410):
                    return None
                if (size := _whole_size(answer)) is None:
                    raise SkelpipeError(f"{address}: the server does not say its size")
                return size

        return self._retries.call(ask)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        raise UsageError(f"{self}: nothing can be written to a web address")

    def remove(self, name: str) -> None:
        raise UsageError(f"{self}: nothing can be removed from a web address")

    def names(self) -> list[str]:
        raise UsageError(f"{self}: a web address does not list its files")

    def child(self, name: str) -> "HttpFilesystem":
        return HttpFilesystem(self._address.child(name), self._retries)

    @contextmanager
    def _answer(
        self, method: str, address: Address, headers: dict[str, str], fine: Iterable[int] = ()
    ) -> Iterator["BaseHTTPResponse"]:
        """Yield the answer to a request after redirects; a status but success and `fine` is an error."""
        from urllib3.exceptions import HTTPError

        try:
            # Each byte of a slow header would restart the time-out of urllib3.
            seconds = CONNECT_SECONDS + 2 * SILENT_SECONDS
            answer = call_within(seconds, lambda: self._follow(method, address, headers))
            try:
                if answer.status not in (200, 206, *fine):
                    raise _status_error(answer, address)
                yield answer
            except (StoppedError, DeadlineError):  # another thread still reads, and closing would wait for it
                raise
            except BaseException:
                _end(answer, method)
                raise
            _end(answer, method)
        except DeadlineError:
            raise TransientError(f"{address}: cannot be read: no complete answer came in time") from None
        except (HTTPError, OSError) as error:
            raise _connection_error(error, address) from None

    def _follow(self, method: str, address: Address, headers: dict[str, str]) -> "BaseHTTPResponse":
        target = address.target
        for _ in range(MOST_REDIRECTS + 1):
            own = {**headers, "Accept-Encoding": "identity", "User-Agent": "skelpipe"}
            if address.user and _origin(target) == (address.scheme, address.host):
                own |= _basic(address.user)
            answer = self._pool().request(
                method,
                target,
                headers=own,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
            location = answer.headers.get("Location")
            if answer.status not in REDIRECTS or not location:
                return answer
            answer.close()
            try:
                target = urljoin(target, location)
                scheme, _ = _origin(target)
            except ValueError:
                raise SkelpipeError(f"{address}: the server redirects to what is no address") from None
            if scheme not in ("http", "https") or (address.scheme == "https" and scheme != "https"):
                raise SkelpipeError(f"{address}: the server redirects away from https, which is not followed")
        raise SkelpipeError(f"{address}: the server redirects more than {MOST_REDIRECTS} times")

    def _pool(self) -> "PoolManager":
        pid = os.getpid()
        if pid not in self._pools:
            self._pools[pid] = _new_pool(self._address)
        return self._pools[pid]


def _end(answer: "BaseHTTPResponse", method: str) -> None:
    """Close an answer; keep its connection where nothing is left to read. The rest of a body may be endless."""
    if method == "HEAD":
        answer.drain_conn()
    answer.close()


def _piece(answer: "BaseHTTPResponse", size: int, speed: MinimumSpeed) -> bytes:
    """Return `size` bytes, fewer at the end. Each read inside returns as soon as any bytes are there."""
    pieces: list[bytes] = []
    chunked = "Transfer-Encoding" in answer.headers
    while size:
        start = time.monotonic()
        read = partial(answer.read1, size)
        # Between chunks, a server may send a byte of their sizes or trailers now and then, for ever.
        piece = call_within(2 * SILENT_SECONDS, read) if chunked else call_until_stopped(read)
        speed.add(time.monotonic() - start, len(piece))
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _new_pool(address: Address) -> "PoolManager":
    """Return connections of this process, through the proxy that the environment names, if any."""
    from urllib.request import getproxies, proxy_bypass

    from urllib3 import PoolManager, ProxyManager, Timeout
    from urllib3.util import parse_url

    timeout = Timeout(connect=CONNECT_SECONDS, read=SILENT_SECONDS)
    proxy = getproxies().get(address.scheme)
    if not proxy or proxy_bypass(address.host):
        return PoolManager(maxsize=CONNECTIONS, timeout=timeout)
    parts = parse_url(proxy if "://" in proxy else f"http://{proxy}")
    headers = _basic(parts.auth, "Proxy-Authorization") if parts.auth else None
    return ProxyManager(parts._replace(auth=None).url, proxy_headers=headers, maxsize=CONNECTIONS, timeout=timeout)


def _basic(user: tuple[str, str] | str, header: str = "Authorization") -> dict[str, str]:
    from base64 import b64encode

    text = user if isinstance(user, str) else ":".join(user)
    return {header: f"Basic {b64encode(text.encode()).decode()}"}


def _origin(target: str) -> tuple[str, str]:
    parts = urlsplit(target)
    return parts.scheme, parts.netloc


def _whole_size(answer: "BaseHTTPResponse") -> int | None:
    """Return the size of the whole file, where an answer, even of a part, says it."""
    if answer.status in (206, 416):
        span = re.fullmatch(r"bytes (?:[0-9]+-[0-9]+|\*)/([0-9]+)", answer.headers.get("Content-Range", ""))
        return whole(span[1]) if span else None
    return whole(answer.headers.get("Content-Length", ""))


def _first_byte(answer: "BaseHTTPResponse") -> int | None:
    """Return where in the file an answer begins; None where it does not say so."""
    if answer.status != 206:
        return 0
    span = re.match(r"bytes ([0-9]+)-", answer.headers.get("Content-Range", ""))
    return whole(span[1]) if span else None


def _status_error(answer: "BaseHTTPResponse", address: Address) -> SkelpipeError:
    """Return the error for an answer: TransientError where another attempt may help."""
    status = answer.status
    if status in (404, 410):
        return SkelpipeError(f"{address}: cannot be read: no such file (HTTP {status})")
    if status in (401, 403, 407):
        return SkelpipeError(
            f"{address}: cannot be read: access is refused (HTTP {status}), check the credentials"
        )
    if status in TRANSIENT:
        after = whole(answer.headers.get("Retry-After", ""))
        return TransientError(f"{address}: cannot be read: the server is busy (HTTP {status})", after)
    return SkelpipeError(f"{address}: cannot be read: HTTP {status}")


def _connection_error(error: Exception, address: Address) -> SkelpipeError:
    """Return the error for a connection that failed, without the words of urllib3."""
    from urllib3 import exceptions as kinds

    def is_a(*wanted: type[BaseException]) -> bool:
        causes: list[Any] = [error, error.__cause__, error.__context__, *error.args]
        return any(isinstance(cause, wanted) for cause in (*causes, *(getattr(c, "reason", None) for c in causes)))

    what = f"{address}: cannot be read"
    if is_a(ssl.SSLCertVerificationError):
        return SkelpipeError(f"{what}: the server's certificate is not trusted (SSL_CERT_FILE names others)")
    if isinstance(error, kinds.LocationValueError):
        return SkelpipeError(f"{what}: its address is not valid")
    if is_a(kinds.NameResolutionError):
        return TransientError(f"{what}: its host name is not known", unreachable=True)
    if is_a(kinds.ConnectTimeoutError, kinds.NewConnectionError):
        return TransientError(f"{what}: no server answers there", unreachable=True)
    if is_a(kinds.ReadTimeoutError, TimeoutError):
        return TransientError(f"{what}: no byte came for {SILENT_SECONDS:.0f} s")
    for cause in (error, *error.args):
        if isinstance(cause, kinds.IncompleteRead):
            got, left = cause.partial, cause.expected
            return TransientError(f"{what}: the connection ended after {got:,} bytes, {left:,} were missing")
    return TransientError(f"{what}: the connection broke")
