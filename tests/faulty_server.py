"""A server that answers wrongly, on the level of bytes: what it sends need not be HTTP at all.

    with FaultyServer(content, FAULTS["endless body"]) as server:
        open_filesystem(f"{server.url}/ds").read("a")

Each fault is a generator that gets the request and yields what is sent, `RESET` to break the connection, or `WAIT`
to fall silent until the test is over.
"""

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["FAULTS", "OVER_S3", "S3_ERRORS", "Fault", "FaultyServer", "Request", "head", "once", "sent"]

RESET, WAIT = b"<reset>", b"<wait>"
PIECE = b"x" * (1 << 16)
DRIP_SECONDS, MOST_DRIPS = 0.05, 2000
MOST_SENT = 1 << 30  # bytes, after which a server without end gives up, so that a fault of ours ends too


class Request(NamedTuple):
    """A request for the bytes from `first` to `last`; `count` is the number of requests before it."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes
    count: int
    url: str

    @property
    def first(self) -> int:
        found = re.match(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else 0

    @property
    def last(self) -> int:
        found = re.match(r"bytes=\d+-(\d+)", self.headers.get("range", ""))
        return int(found[1]) if found else len(self.content) - 1


Answer = Callable[[Request], Iterator[bytes]]


class Fault(NamedTuple):
    """`passes`: a client that tries again gets the whole file from it; `says`: words of the message where not.

    `attempts` is the most requests that a client may make before it gives up.
    """

    answer: Answer
    says: str = ""
    passes: bool = False
    attempts: int = 9


def head(status: str = "200 OK", *lines: str, length: int | str | None = None) -> bytes:
    named = [f"HTTP/1.1 {status}", *lines, *([] if length is None else [f"Content-Length: {length}"])]
    return "\r\n".join([*named, "", ""]).encode("latin-1")


def whole(request: Request, *lines: str) -> Iterator[bytes]:
    """The right answer, with ranges."""
    piece, total = request.content, len(request.content)
    if "range" in request.headers:
        piece = piece[request.first : request.last + 1]
        span = f"Content-Range: bytes {request.first}-{request.first + len(piece) - 1}/{total}"
        yield head("206 Partial Content", span, *lines, length=len(piece))
    else:
        yield head("200 OK", *lines, length=total)
    if request.method != "HEAD":
        yield piece


def once(fault: Answer) -> Answer:
    """Answer wrongly at the first request, and rightly afterwards."""
    return lambda request: fault(request) if request.count == 0 else whole(request)


def sent(*pieces: bytes) -> Answer:
    return lambda request: iter(pieces)


def endless(start: bytes, piece: bytes = PIECE) -> Answer:
    def answer(request: Request) -> Iterator[bytes]:
        yield start
        for _ in range(MOST_SENT // len(piece)):
            yield piece

    return answer


def half(request: Request) -> bytes:
    return request.content[: len(request.content) // 2]


def short(end: bytes) -> Answer:
    def answer(request: Request) -> Iterator[bytes]:
        yield head(length=len(request.content))
        yield half(request)
        yield end

    return answer


def redirect(to: Callable[[Request], str], status: str = "302 Found") -> Answer:
    return lambda request: iter([head(status, f"Location: {to(request)}", length=0)])


def tags(*values: str) -> Answer:
    """Break off in the middle, and give the file another ETag at each request."""

    def answer(request: Request) -> Iterator[bytes]:
        tag = values[min(request.count, len(values) - 1)]
        lines = [f"ETag: {tag}"] if tag else []
        if request.count == 0:
            yield head("200 OK", *lines, length=len(request.content))
            yield half(request)
        else:
            yield from whole(request, *lines)

    return answer


def chunked(*pieces: bytes) -> Answer:
    return lambda request: iter([head("200 OK", "Transfer-Encoding: chunked"), *pieces])


def whole_in_chunks(request: Request) -> Iterator[bytes]:
    yield head("200 OK", "Transfer-Encoding: chunked")
    for start in range(0, len(request.content), 1000):
        piece = request.content[start : start + 1000]
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def drip(start: Callable[[Request], bytes]) -> Answer:
    """Send a byte now and then, each of which shows that the connection lives."""

    def answer(request: Request) -> Iterator[bytes]:
        yield start(request)
        for _ in range(MOST_DRIPS):
            time.sleep(DRIP_SECONDS)
            yield b"x"

    return answer


def with_length(length: str, after: bytes = b"") -> Answer:
    """The whole content under a length that is another, or none."""

    def answer(request: Request) -> Iterator[bytes]:
        yield head(length=length or len(request.content))
        if request.method != "HEAD":
            yield request.content + after

    return answer


def elsewhere(request: Request) -> Iterator[bytes]:
    """Send the client to another name of this host, where the file is."""
    if request.headers["host"].startswith("127."):
        yield head("302 Found", f"Location: {request.url.replace('127.0.0.1', 'localhost')}/b", length=0)
    else:
        yield from whole(request)


def wrong_part(span: str) -> Answer:
    def answer(request: Request) -> Iterator[bytes]:
        if request.first:
            line = f"Content-Range: {span.format(request.first + 1, len(request.content))}"
            yield head("206 Partial Content", line, length=len(half(request)))
            yield half(request)
        else:
            yield from short(b"")(request)

    return answer


def portal(request: Request) -> Iterator[bytes]:
    page = b"<html><body>Please log in to the hotel's network</body></html>"
    yield head("200 OK", "Content-Type: text/html", length=len(page))
    yield page


DIGITS = "9" * 60_000  # as many as a header may have
BROKEN, SILENT, BUSY = "the connection broke", "no byte came", "the server is busy"
CAME = "missing|the connection broke"

FAULTS: dict[str, Fault] = {
    # of bodies
    "short once": Fault(once(short(b"")), passes=True),
    "short": Fault(short(b""), CAME),
    "reset within, once": Fault(once(short(RESET)), passes=True),
    "reset within": Fault(short(RESET), CAME),
    "reset before": Fault(sent(RESET), BROKEN),
    "closed before": Fault(sent(), BROKEN),
    "silent before": Fault(sent(WAIT), f"{SILENT}|in time"),
    "silent within": Fault(short(WAIT), SILENT),
    "silent in the head": Fault(sent(b"HTTP/1.1 200 OK\r\nX-A: ", WAIT), f"{SILENT}|in time"),
    "slow drip": Fault(drip(lambda request: head(length=len(request.content))), "bytes came in"),
    "slow drip of the head": Fault(drip(lambda _: b"HTTP/1.1 200 OK\r\nX-A: "), "in time"),
    "longer than its length": Fault(with_length("", b"more" * 9999), passes=True),
    "endless, no length": Fault(endless(head()), "is longer than"),
    "endless, huge length": Fault(endless(head(length=10**17)), "is longer than"),
    "endless chunks": Fault(
        endless(head("200 OK", "Transfer-Encoding: chunked"), b"10000\r\n" + PIECE + b"\r\n"), "is longer"
    ),
    "endless chunk size": Fault(endless(head("200 OK", "Transfer-Encoding: chunked"), b"0" * 65536), BROKEN),
    "endless trailers": Fault(
        endless(head("200 OK", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n", b"A: b\r\n" * 1000),
        "in time|broke|came",
    ),
    "chunk size garbage": Fault(chunked(b"zz\r\nabc\r\n"), BROKEN),
    "negative chunk size": Fault(chunked(b"-5\r\nabc\r\n"), BROKEN),
    "chunks cut": Fault(chunked(b"ff\r\nabc"), BROKEN),
    "whole in chunks": Fault(whole_in_chunks, passes=True),
    # of lengths
    "negative length": Fault(sent(head(length=-5), b"x"), passes=False, says="never"),
    "length of 60,000 digits": Fault(endless(head(length=DIGITS)), "is longer than"),
    "length of letters": Fault(with_length("abc"), passes=True),
    "length of odd digits": Fault(with_length("²"), passes=True),
    "two lengths": Fault(sent(head("200 OK", "Content-Length: 5", length=7), b"12345"), BROKEN),
    # of heads
    "no HTTP": Fault(sent(b"\x16\x03\x01\x02\x00 220 smtp ready\r\n"), BROKEN),
    "bad status": Fault(sent(b"HTTP/1.1 abc OK\r\n\r\n"), BROKEN),
    "status of odd digits": Fault(sent("HTTP/1.1 ²00 OK\r\n\r\n".encode("latin-1")), BROKEN),
    "status 999": Fault(sent(head("999 What", length=0)), "HTTP 999", attempts=1),
    "status 204": Fault(sent(head("204 No Content")), "HTTP 204", attempts=1),
    "endless status line": Fault(endless(b"HTTP/1.1 200 "), BROKEN),
    "endless headers": Fault(endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000), BROKEN),
    "endless header line": Fault(endless(b"HTTP/1.1 200 OK\r\nX-A: "), BROKEN),
    "endless 100 Continue": Fault(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "in time|broke"),
    # of statuses
    "busy once": Fault(once(sent(head("503 Busy", length=0))), passes=True),
    "busy": Fault(sent(head("503 Busy", length=0)), BUSY),
    "busy, waits of odd digits": Fault(sent(head("503 Busy", "Retry-After: ²", length=0)), BUSY),
    "busy, endless body": Fault(endless(head("503 Busy")), BUSY),
    "refused, endless body": Fault(endless(head("403 Forbidden")), "access is refused", attempts=1),
    "missing, endless body": Fault(endless(head("404 Not Found")), "no such file", attempts=2),
    # of redirects
    "redirect loop": Fault(
        redirect(lambda request: request.url + request.path), "redirects more than 5 times", attempts=6
    ),
    "redirect, endless body": Fault(
        lambda request: (
            endless(head("302 Found", f"Location: {request.url}/b"))(request)
            if request.path.endswith("/a")
            else whole(request)
        ),
        passes=True,
    ),
    "redirect to another host": Fault(elsewhere, passes=True),
    "redirect to no address": Fault(redirect(lambda _: "http://["), "redirects to what is no address", attempts=1),
    "redirect to no host": Fault(redirect(lambda _: "http:///x"), "redirects more than 5 times", attempts=6),
    "redirect to a file": Fault(redirect(lambda _: "file:///etc/passwd"), "redirects away from", attempts=1),
    "redirect to no port": Fault(
        redirect(lambda _: "http://127.0.0.1:99999/"), "address is not valid", attempts=2
    ),
    # of versions
    "changed ETag": Fault(tags('"1"', '"2"'), "was changed on the server", attempts=2),
    "ETag lost": Fault(tags('"1"', ""), "was changed on the server", attempts=2),
    "no ETag": Fault(tags(""), passes=True),
    # of ranges
    "another part": Fault(wrong_part("bytes {0}-99999/{1}"), "another part", attempts=2),
    "a part of odd digits": Fault(wrong_part("bytes ²-9/{1}"), "another part|was changed", attempts=2),
    "a part of 60,000 digits": Fault(wrong_part(f"bytes {DIGITS}-9/{{1}}"), "another part", attempts=2),
    "a part without a place": Fault(wrong_part("nothing"), "another part|was changed", attempts=2),
    # of contents
    "gzip": Fault(sent(head("200 OK", "Content-Encoding: gzip", length=4), b"\x1f\x8b\x08\x00"), says="never"),
    "captive portal": Fault(portal, says="never"),
}

# What is no matter of HTTP alone, or of what skelpipe's own client does.
OVER_S3 = [
    kind
    for kind in FAULTS
    if not any(
        word in kind
        for word in (
            *("redirect", "ETag", "part", "hunk", "portal", "gzip", "Continue", "negative"),
            *("letters", "length of odd", "longer than"),
        )
    )
]

S3_ERRORS: dict[str, tuple[str, str]] = {
    "slow down": ("503 Slow Down", "SlowDown"),
    "internal error": ("500 Internal Error", "InternalError"),
    "expired credentials": ("400 Bad Request", "ExpiredToken"),
    "wrong signature": ("403 Forbidden", "SignatureDoesNotMatch"),
    "access denied": ("403 Forbidden", "AccessDenied"),
    "clock is wrong": ("403 Forbidden", "RequestTimeTooSkewed"),
    "no such bucket": ("404 Not Found", "NoSuchBucket"),
    "moved bucket": ("301 Moved Permanently", "PermanentRedirect"),
}


class FaultyServer:
    """Serves one content at every path, by a fault; `requests` came, and `sent` bytes of answers went."""

    def __init__(self, content: bytes, fault: Fault) -> None:
        self.content, self._fault = content, fault
        self.requests: list[Request] = []
        self.sent = 0
        self._released = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._connections: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "FaultyServer":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as file:
            while request := self._request(file):
                self.requests.append(request)
                for piece in self._fault.answer(request):
                    if piece == RESET:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    if piece == WAIT:
                        self._released.wait(120)
                        return
                    connection.sendall(piece)
                    self.sent += len(piece)
                if request.method != "HEAD" or self._fault.answer is not whole:
                    return  # each answer has a connection of its own: where it ends without a length is clear

    def _request(self, file: "object") -> Request | None:
        line = file.readline().decode("latin-1").split()  # type: ignore[attr-defined]
        if len(line) != 3:
            return None
        headers = {}
        while name := file.readline().decode("latin-1").strip():  # type: ignore[attr-defined]
            key, _, value = name.partition(":")
            headers[key.lower()] = value.strip()
        return Request(line[0], line[1], headers, self.content, len(self.requests), self.url)
