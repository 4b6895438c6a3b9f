"""Fixtures for storage, datasets, streams and loaders.

A dataset in memory, the check that every resumable iterator resumes exactly, and a local web server that can fail
on request, with a small dataset behind it.
"""

import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.skeleton import layout
from skelpipe.storage import retry

SECRET = "wJalrXUtnFEMI"  # in credentials and queries; must appear nowhere else
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "skelpipe-loader"]


@pytest.fixture
def threads() -> Iterator[Callable[[], list[threading.Thread]]]:
    """The loaders' threads that run at present, on call; none may be left when the test ends."""
    yield loader_threads
    assert loader_threads() == []


class MemoryReader:
    """Rows of an array; counts its reads, and can fail on a row."""

    def __init__(self, clips: np.ndarray) -> None:
        self.clips = clips
        self.gathers = 0
        self.broken_row = -1

    def __len__(self) -> int:
        return len(self.clips)

    def mapped(self, rows: np.ndarray) -> None:
        """Say that every clip has to be gathered."""

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        self.gathers += 1
        if self.broken_row in rows:
            raise OSError(5, "Input/output error", "train/joint/000000.tar")
        if out is None:
            return self.clips[rows]
        assert out.shape == (len(rows), *self.clips.shape[1:])
        out[:] = self.clips[rows]
        return out


class MemoryDataset:
    """A dataset whose clips contain their row number: clip i of the joint view starts at i."""

    def __init__(self, shard_sizes: list[int], shape: tuple[int, int, int, int] = (3, 8, 25, 2)) -> None:
        self.path = Path("data/memory")
        self.digest = f"digest-of-{shard_sizes}"
        self.shape = shape
        self.views = ("joint", "motion")
        self.layout = layout("kinect-v2-25")
        self.sizes = np.array(shard_sizes, np.int64)
        count = int(self.sizes.sum())
        rng = np.random.default_rng(7)
        self._labels = rng.integers(0, 5, count)
        self.clips = {view: rng.normal(size=(count, *shape)).astype(np.float32) for view in self.views}
        self.clips["joint"][:, 0, 0, 0, 0] = np.arange(count)
        self.readers: dict[str, MemoryReader] = {}

    def shard_sizes(self, subset: str) -> np.ndarray:
        return self.sizes

    def count(self, subset: str) -> int:
        return int(self.sizes.sum())

    def labels(self, subset: str) -> np.ndarray:
        return self._labels

    stored_labels = labels

    def reader(self, subset: str, view: str) -> MemoryReader:
        self.readers[view] = MemoryReader(self.clips[view])
        return self.readers[view]


def _forever(source: Any) -> Iterator[Any]:
    while True:
        yield from source


def _resumes_exactly(make: Callable[[], Any], look: Callable[[Any], Any], cut: int, epochs: int = 3) -> None:
    """After `cut` batches a fresh iterator given the state yields what is left of `epochs` epochs, and no
    more of the epoch it stopped in than was left.

    `make` builds the iterator anew, `look` turns a batch into plain values that compare.
    """
    whole = make()
    expected = [[look(batch) for batch in whole] for _ in range(epochs)]
    flat = [seen for epoch in expected for seen in epoch]
    stopped = make()
    assert [look(batch) for batch in islice(_forever(stopped), cut)] == flat[:cut]
    state = json.loads(json.dumps(stopped.state()))
    assert stopped.state() == state, "the state is not plain values"
    resumed = make()
    resumed.load_state(state)
    assert resumed.state() == state
    rest = [look(batch) for batch in resumed]
    steps = len(expected[0])
    assert rest == expected[state["epoch"]][state["step"] :]
    rest += [look(batch) for _ in range(state["epoch"] + 1, epochs) for batch in resumed]
    assert rest == flat[cut:]
    assert resumed.state() == whole.state()
    assert len(whole) == steps


@pytest.fixture(scope="session")
def memory_dataset() -> type[MemoryDataset]:
    return MemoryDataset


@pytest.fixture(scope="session")
def resumes_exactly() -> Callable[..., None]:
    return _resumes_exactly


@dataclass
class Fault:
    """What happens to the next `times` requests for a file: a status, or a body that is damaged or delayed.

    `kind` is "status", "reset" (half of the body, then a reset), "short" (half of the body, then the end),
    "cut" (half of the body as if it were all), "wrong" (a byte is another), "hang" (half, then silence),
    "trickle" (a byte every 0.1 s), "head" (an endless header, a byte every 0.1 s).
    """

    kind: str
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "GET"


class Server(ThreadingHTTPServer):
    """Serves files from memory by path. `requests` are (method, path, headers) in the order of arrival."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.check: Callable[[Handler], int] | None = None  # returns the status of every request
        self.ranges = True
        self.rate = 0.0  # bytes per second on each connection, 0 for no limit
        self.released = threading.Event()  # ends requests that hang

    def handle_error(self, *_: object) -> None:
        """Clients that break the connection are part of the tests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self, name: str = "") -> list[str]:
        return [path for method, path, _ in self.requests if method == "GET" and name in path]

    def count(self) -> Counter[str]:
        return Counter(self.gets())

    @staticmethod
    def shard(number: int, view: str = "joint", subset: str = "train") -> str:
        """Return the path of a shard of the dataset of `url` and `web`."""
        return f"/bucket/ds/{subset}/{view}/{number:06d}.tar"

    def tars(self) -> list[str]:
        """Return the shards that were requested, each once, in the order of the first request."""
        return list(dict.fromkeys(self.gets(".tar")))

    def fault(self, path: str, method: str = "GET") -> Fault | None:
        for fault in self.faults.get(path, []):
            if fault.times > 0 and fault.method == method:
                return fault
        return None

    def serve_folder(self, folder: Path, prefix: str = "ds") -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.files[f"/{prefix}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server = self.server
        path = unquote(urlsplit(self.path).path)
        server.requests.append((self.command, path, dict(self.headers)))
        status = server.check(self) if server.check else 200
        fault = server.fault(path, self.command)
        if fault is not None:
            fault.times -= 1
            if fault.kind == "status":
                self.answer(fault.status, b"<html>no</html>", fault.headers)
                return
        body = b"" if path == "/bucket" else server.files.get(path)
        if status != 200 or body is None:
            self.answer(404 if status == 200 else status, b"no")
            return
        if fault is not None and fault.kind == "head":
            self.send_response_only(200)
            self.flush_headers()
            self.trickle(b"X-Long: " + bytes(10_000).replace(b"\0", b"x"))
            return
        headers = {"ETag": f'"{hash(body)}"'}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        code = 200
        if span and server.ranges:
            first, last = int(span[1]), min(int(span[2] or len(body)), len(body) - 1)
            if first > last:
                self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                return
            headers["Content-Range"], code = f"bytes {first}-{last}/{len(body)}", 206
            body = body[first : last + 1]
        self.body(code, body, headers, fault.kind if fault else "")

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.body(status, body, headers or {}, "")

    def body(self, status: int, body: bytes, headers: dict[str, str], kind: str) -> None:
        sent, length = body, len(body)
        if kind in ("reset", "short", "hang", "cut"):
            sent = body[: len(body) // 2]
            length = len(sent) if kind == "cut" else length
        if kind == "wrong":
            sent = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "trickle":
            self.trickle(sent)
            return
        try:
            self.send_slowly(sent)
        except OSError:
            self.close_connection = True
            return
        if kind == "hang":
            self.server.released.wait(300)
        if kind in ("reset", "short", "hang"):
            self.close_connection = True
        if kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.connection.close()

    def trickle(self, body: bytes) -> None:
        self.close_connection = True
        with suppress(OSError):
            for byte in body:
                if self.server.released.wait(0.1):
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()

    def send_slowly(self, body: bytes) -> None:
        rate = self.server.rate
        step = max(1, int(rate / 50)) if rate else len(body) or 1
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            if rate:
                time.sleep(step / rate)


@pytest.fixture
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries after milliseconds; no proxy between the tests and the local server."""
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=5, first=0.002, longest=0.01))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server(haste: None) -> Iterator[Server]:
    """A running server of files in memory; retries after milliseconds."""
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(params=["http", "s3"])
def url(request: pytest.FixtureRequest, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the dataset, once over HTTP and once over the S3 protocol; both request files and ranges."""
    server.serve_folder(folder, "bucket/ds")
    if request.param == "http":
        return f"{server.url}/bucket/ds?sig={SECRET}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return f"s3://bucket/ds?endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"


@pytest.fixture
def web(server: Server, folder: Path) -> str:
    server.serve_folder(folder, "bucket/ds")
    return f"{server.url}/bucket/ds"


@pytest.fixture(scope="session")
def seen() -> Callable[[Any], tuple[Any, ...]]:
    """Returns a batch of a stream as plain values that can be compared."""

    def see(batch: Any) -> tuple[Any, ...]:
        clips = {name: view.tobytes() for name, view in batch.views.items()}
        return batch.epoch, batch.step, batch.index.tolist(), clips

    return see


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool]], None]:
    def wait(true: Callable[[], bool]) -> None:
        for _ in range(3000):
            if true():
                return
            time.sleep(0.02)
        raise AssertionError("the condition did not become true in a minute")

    return wait


@pytest.fixture
def fault() -> type[Fault]:
    return Fault


@pytest.fixture(scope="session")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    skeleton_text: Callable[..., str],
    moving_bodies: Callable[..., list[object]],
    ntu_names: Callable[..., list[str]],
) -> Path:
    """A dataset of shards of 3 clips: 8 train shards and 4 test shards. Tests must not change it."""
    root = tmp_path_factory.mktemp("remote")
    raw = root / "raw"
    raw.mkdir()
    for seed, name in enumerate(ntu_names(actions=3, subjects=(1, 2, 3))):
        (raw / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 9 + seed % 5, 1)))
    prepare(load_manifest("ntu60"), [raw], root / "ds", Options("xsub", 10, 2, 3), quiet=True)
    return root / "ds"


@pytest.fixture(scope="session")
def other_folder(
    tmp_path_factory: pytest.TempPathFactory,
    skeleton_text: Callable[..., str],
    moving_bodies: Callable[..., list[object]],
    ntu_names: Callable[..., list[str]],
) -> Path:
    """A dataset like `folder` with other clips, of its own split, in shards of 4. Tests must not change it."""
    root = tmp_path_factory.mktemp("other")
    raw = root / "raw"
    raw.mkdir()
    for seed, name in enumerate(ntu_names(actions=2, subjects=(1, 2, 4))):
        (raw / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(100 + seed, 9 + seed % 4, 1)))
    prepare(load_manifest("ntu60"), [raw], root / "ds", Options("xview", 10, 2, 4), quiet=True)
    return root / "ds"
