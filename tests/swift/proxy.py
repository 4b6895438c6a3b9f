"""A TCP proxy that makes a connection unreliable: it cuts, delays, slows, answers itself or changes bytes.

    with FaultProxy(server.port) as proxy:
        proxy.add(r"GET .*000000[.]tar", then="reset", after=10_000, times=2)
        open_filesystem(server.url("bucket/ds", port=proxy.port))

It knows just enough HTTP/1.1 to tell where a request starts: clients send the next one when the last is answered.
"""

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PIECE = 1 << 16
MOST = 64  # connections at a time
IDLE_SECONDS = 120.0
REQUEST = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.[01]\r\n")


@dataclass
class Fault:
    """What happens to the next `times` requests whose "METHOD path" has a match of `match`.

    The request is passed on after `delay` seconds, its answer at `rate` bytes per second (None: as it comes). Once
    `after` bytes of the answer went through, head included, `then` happens: "reset" and "close" end the
    connection, "hang" leaves it silent, "flip" changes the next byte. With `sent`, bytes of the request count
    instead. `answer` is sent in place of everything, and the connection closed.
    """

    match: str = ""
    then: str | None = None
    after: int = 0
    sent: int | None = None
    answer: bytes | None = None
    delay: float = 0.0
    rate: float | None = None
    times: int = 1


class FaultProxy:
    """Forwards connections to a port of 127.0.0.1. `requests` lists all requests as "METHOD path".

    All answers together come at `rate` bytes per second, where it is given.
    """

    def __init__(self, upstream: int, rate: float | None = None) -> None:
        self.requests: list[str] = []
        self.sent = 0  # bytes of answers passed on
        self._upstream = upstream
        self._rate, self._free_at = rate, 0.0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=MOST)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join()

    def add(self, match: str, **what: Any) -> Fault:
        """Add a Fault for requests that match; the first that fits is taken."""
        fault = Fault(match, **what)
        with self._lock:
            self._faults.append(fault)
        return fault

    @staticmethod
    def refusal(status: str = "503 Slow Down", code: str = "SlowDown", *headers: str) -> bytes:
        """Return an answer such as an S3 server gives when it does not do what it is asked."""
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{status}</Message></Error>"
        head = [f"HTTP/1.1 {status}", "Content-Type: application/xml", f"Content-Length: {len(body)}"]
        return "\r\n".join([*head, *headers, "Connection: close", "", body]).encode()

    def clear(self) -> None:
        """Forget all faults and all requests."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()

    def cut(self) -> None:
        """Reset all connections."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.end(reset=True)

    def turn(self, size: int) -> float:
        """Return how many seconds the next `size` bytes must wait so that `rate` is kept."""
        if self._rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size / self._rate
            return self._free_at - now

    def fault_of(self, request: str) -> Fault | None:
        """Record a request; return the fault that applies to it, if any."""
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                if fault.times > 0 and re.search(fault.match, request):
                    fault.times -= 1
                    return fault
        return None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            with self._lock:
                full = len(self._connections) >= MOST
            if full:
                client.close()
                continue
            connection = _Connection(self, client, self._upstream)
            with self._lock:
                self._connections.add(connection)
            connection.start()

    def forget(self, connection: "_Connection") -> None:
        with self._lock:
            self._connections.discard(connection)


@dataclass(eq=False)
class _Connection:
    """One connection: a thread carries requests on, another one answers back."""

    proxy: FaultProxy
    client: socket.socket
    upstream: int
    server: socket.socket | None = None
    fault: Fault | None = None
    passed: int = 0  # bytes of this answer
    sent: int = 0  # bytes of this request
    ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        threading.Thread(target=self._guarded, args=(self._requests,), daemon=True).start()

    def end(self, *, reset: bool = False) -> None:
        """Close both ends; with `reset` the client is told so abruptly."""
        with self._lock:
            if self.ended.is_set():
                return
            self.ended.set()
        if reset:  # no lingering: closing sends RST, and a FIN must not come before it
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        _close(self.client, socket.SHUT_RD if reset else socket.SHUT_RDWR)
        if self.server is not None:
            _close(self.server, socket.SHUT_RDWR)
        self.proxy.forget(self)

    def _guarded(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            work()
        self.end()

    def _requests(self) -> None:
        self.client.settimeout(IDLE_SECONDS)
        while piece := self.client.recv(PIECE):
            if found := REQUEST.match(piece):
                self.fault = self.proxy.fault_of(" ".join(part.decode() for part in found.groups()))
                self.passed = self.sent = 0
            fault = self.fault
            if fault is not None and found:
                self.ended.wait(fault.delay)
                if fault.answer is not None:
                    self.client.sendall(fault.answer)
                    return
            if fault is not None and fault.sent is not None and self.sent + len(piece) > fault.sent:
                self._upstream().sendall(piece[: fault.sent - self.sent])
                self._strike(fault)
                return
            self.sent += len(piece)
            self._upstream().sendall(piece)

    def _upstream(self) -> socket.socket:
        if self.server is None:
            self.server = socket.create_connection(("127.0.0.1", self.upstream))
            self.server.settimeout(IDLE_SECONDS)
            threading.Thread(target=self._guarded, args=(self._answers,), daemon=True).start()
        return self.server

    def _answers(self) -> None:
        assert self.server is not None
        while piece := self.server.recv(PIECE):
            fault = self.fault
            if waits := self.proxy.turn(len(piece)):
                self.ended.wait(waits)
            if fault is not None and fault.rate:
                self.ended.wait(len(piece) / fault.rate)
            if fault is not None and fault.then and fault.sent is None and self.passed + len(piece) > fault.after:
                whole = fault.after - self.passed
                self.client.sendall(piece[:whole])
                if fault.then != "flip":
                    self._strike(fault)
                    return
                piece = bytes([piece[whole] ^ 0xFF]) + piece[whole + 1 :]
                self.fault = None
            self.client.sendall(piece)
            self.passed += len(piece)
            self.proxy.sent += len(piece)

    def _strike(self, fault: Fault) -> None:
        if fault.then == "hang":
            self.ended.wait(IDLE_SECONDS)
        self.end(reset=fault.then == "reset")


def _close(one: socket.socket, how: int) -> None:
    """Close a socket that another thread may wait for: only shutting it down wakes that thread."""
    with contextlib.suppress(OSError):  # the other side was faster
        one.shutdown(how)
    one.close()
