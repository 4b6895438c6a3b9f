"""Files at web addresses: what is requested, what is answered, and where secrets are sent."""

import base64
import pickle
import socket
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.storage import open_filesystem, url_key
from skelpipe.storage.http import Address, HttpFilesystem
from skelpipe.storage.retry import ExhaustedError

SECRET = "SECRETsecret"


def test_files_below_an_address(server) -> None:
    content = bytes(range(256)) * 1000
    server.files = {"/a b/ds/train/x#1.tar": content, "/a b/ds/empty": b""}
    filesystem = open_filesystem(f"{server.url}/a%20b/ds/")
    assert not filesystem.is_local
    assert str(filesystem) == f"{server.url}/a b/ds"
    assert filesystem.read("train/x#1.tar") == content
    assert [len(piece) for piece in filesystem.stream("train/x#1.tar", 100_000)] == [100_000, 100_000, 56_000]
    assert filesystem.child("train").read("x#1.tar") == content
    assert filesystem.read("empty") == b""
    assert (filesystem.size("train/x#1.tar"), filesystem.size("empty"), filesystem.size("none")) == (
        256_000,
        0,
        None,
    )
    with pytest.raises(SkelpipeError, match=r"/ds/none: cannot be read: no such file \(HTTP 404\)$"):
        filesystem.read("none")


def test_a_web_address_is_read_only_and_lists_no_files(server) -> None:
    filesystem = open_filesystem(f"{server.url}/ds")
    for call in (
        lambda: filesystem.write("a", [b""]),
        lambda: filesystem.remove("a"),
        filesystem.names,
        lambda: filesystem.local_path,
    ):
        with pytest.raises(UsageError, match=rf"^{server.url}/ds: "):
            call()
    assert server.requests == []


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "a\0b", ""])
def test_a_name_never_leads_out(server, name) -> None:
    filesystem = open_filesystem(f"{server.url}/ds")
    for call in (filesystem.read, filesystem.size, filesystem.child, lambda n: list(filesystem.stream(n))):
        with pytest.raises(UsageError, match="is not the name of a file inside"):
            call(name)
    assert server.requests == []


@pytest.mark.parametrize(
    "url", ["http://", "https:///ds", "http://host/a/../b", "http://ho st/a", "http://host/a#b", "http://host:x/a"]
)
def test_addresses_that_are_refused(url) -> None:
    with pytest.raises(UsageError):
        open_filesystem(url)


@given(
    cuts=st.lists(st.integers(0, 999), min_size=1, max_size=4), ranges=st.booleans(), chunk=st.integers(1, 1200)
)
@settings(max_examples=40, deadline=None)
def test_a_stream_goes_on_where_a_connection_broke(cuts, ranges, chunk) -> None:
    """Whatever the breaks, whether the server knows ranges or not: the bytes are those of the file."""
    content = bytes(i * 7 % 251 for i in range(1000))
    left = list(cuts)
    filesystem = open_filesystem("http://127.0.0.1:1/ds")

    class Answer:
        def __init__(self, start: int) -> None:
            self.status, self.start = (206, start) if ranges and start else (200, 0)
            self.headers = {"Content-Range": f"bytes {start}-999/1000"} if self.status == 206 else {}
            self.headers |= {"Content-Length": str(1000 - self.start)}
            self.end = max(self.start, left.pop()) if left else 1000

        def read1(self, size: int) -> bytes:
            if self.start >= self.end and self.end < 1000:
                from urllib3.exceptions import ProtocolError

                raise ProtocolError("broken")
            piece = content[self.start : min(self.start + size, self.end)]
            self.start += len(piece)
            return piece

        def close(self) -> None:
            pass

    filesystem._follow = lambda method, address, headers: Answer(
        int(headers["Range"][6:-1]) if "Range" in headers else 0
    )
    assert b"".join(filesystem.stream("a", chunk)) == content


def test_only_what_is_missing_is_asked_for_again(server, fault) -> None:
    content = bytes(range(256)) * 12_000
    server.files["/a"] = content
    for kind in ("reset", "short"):
        server.faults["/a"] = [fault(kind)]
        server.requests.clear()
        assert open_filesystem(server.url).read("a") == content
        asked = [headers.get("Range") for _, _, headers in server.requests]
        assert len(asked) == 2
        assert asked[0] is None
        if kind == "reset":  # takes with it what has arrived but was not read yet
            continue
        assert 0 < int(asked[1].removeprefix("bytes=").removesuffix("-")) <= len(content) // 2


def test_a_file_that_changes_while_it_is_read_is_an_error(server, fault) -> None:
    server.files["/a"] = bytes(1 << 20)
    server.faults["/a"] = [fault("short")]
    pieces = open_filesystem(server.url).stream("a", 1 << 16)
    next(pieces)
    server.files["/a"] = bytes([1]) * (1 << 20)
    with pytest.raises(SkelpipeError, match="/a: was changed on the server while it was read"):
        list(pieces)


def test_sizes_of_servers_that_know_no_head(server, fault) -> None:
    server.files = {"/a": b"abc", "/empty": b""}
    filesystem = open_filesystem(server.url)
    for status in (403, 405, 501):
        for path in ("/a", "/empty", "/none"):
            server.faults[path] = [fault("status", status=status, method="HEAD")]
        assert (filesystem.size("a"), filesystem.size("empty"), filesystem.size("none")) == (3, 0, None)
    server.ranges = False
    server.faults["/a"] = [fault("status", status=405, method="HEAD")]
    assert filesystem.size("a") == 3


def test_credentials_go_to_the_host_they_are_for_and_nowhere_else(server, fault) -> None:
    """User-info is sent as a header, the query with each request; after a redirect another host gets neither."""
    seen: list[str] = []
    other = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        connection, _ = other.accept()
        seen.append(connection.recv(65536).decode())
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    server.files["/ds/a"] = b"abc"
    filesystem = open_filesystem(f"{server.url.replace('://', f'://me:{SECRET}@')}/ds?sig={SECRET}")
    assert filesystem.read("a") == b"abc"
    headers = server.requests[-1][2]
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode() == f"me:{SECRET}"
    target = f"http://127.0.0.1:{other.getsockname()[1]}/b"
    server.faults["/ds/a"] = [fault("status", status=302, headers={"Location": target})]
    assert filesystem.read("a") == b"ok"
    thread.join(5)
    other.close()
    assert "SECRET" not in seen[0]
    assert "authorization" not in seen[0].lower()


def test_redirects_are_followed_a_few_times_and_never_away_from_https(server, fault) -> None:
    server.files["/ds/b"] = b"there"
    filesystem = open_filesystem(f"{server.url}/ds")
    server.faults["/ds/a"] = [fault("status", status=308, headers={"Location": "b"})]
    assert filesystem.read("a") == b"there"
    server.faults["/ds/a"] = [fault("status", times=100, status=302, headers={"Location": "/ds/a"})]
    with pytest.raises(SkelpipeError, match="redirects more than 5 times"):
        filesystem.read("a")
    assert len(server.gets("/ds/a")) < 10
    for location in (f"{server.url}/ds/b", "ftp://host/b", "file:///etc/passwd"):
        secure = HttpFilesystem(Address("https", "host", "ds"))

        class Answer:
            status = 302

            def __init__(self) -> None:
                self.headers = {"Location": location}  # noqa: B023

            def close(self) -> None:
                pass

        class Pool:
            def request(self, *_: object, **__: object) -> Answer:
                return Answer()

        secure._pool = Pool
        with pytest.raises(SkelpipeError, match="away from https"):
            secure.read("a")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_what_would_be_the_same_again_is_not_tried_again(server, fault, status) -> None:
    server.faults["/a"] = [fault("status", times=9, status=status)]
    with pytest.raises(SkelpipeError, match=rf"/a: cannot be read: .*HTTP {status}") as caught:
        open_filesystem(server.url).read("a")
    assert len(server.requests) == 1
    assert "\n" not in str(caught.value)
    assert ("credentials" in str(caught.value)) == (status in (401, 403))


def test_no_message_shows_a_secret(server, fault, monkeypatch) -> None:
    """Every way to fail, with secrets in user-info and query; the chain of causes is cut as well."""
    import skelpipe.storage.http

    monkeypatch.setattr(skelpipe.storage.http, "SILENT_SECONDS", 0.2)
    server.files["/ds/a"] = bytes(1000)
    url = f"{server.url.replace('://', f'://{SECRET}u:{SECRET}@')}/ds?X-Amz-Signature={SECRET}"
    loop = {"Location": f"/ds/a?{SECRET}"}
    faults = [fault("status", 99, status) for status in (400, 401, 403, 404, 503)]
    faults += [fault(kind, 99) for kind in ("reset", "short", "hang")] + [fault("status", 99, 302, loop)]
    dead = url.replace(str(server.server_port), "1")
    cases = [(open_filesystem(url), each) for each in faults] + [(open_filesystem(dead), faults[0])]
    for filesystem, each in cases:
        server.faults["/ds/a"] = [each]
        with pytest.raises(SkelpipeError) as caught:
            filesystem.read("a")
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        for text in (
            str(caught.value),
            repr(filesystem),
            str(filesystem),
            repr(filesystem._address),
            url_key(url),
        ):
            assert "SECRET" not in text
        assert "/ds/a: " in str(caught.value)
    assert url_key(url) == url_key(url.replace(f"{SECRET}u", "other"))
    assert url_key(url) != url_key(url.replace("/ds", "/other"))


def test_a_hang_is_noticed_and_survived(server, fault, monkeypatch) -> None:
    import skelpipe.storage.http

    monkeypatch.setattr(skelpipe.storage.http, "SILENT_SECONDS", 0.3)
    server.files["/a"] = bytes(range(256)) * 100
    server.faults["/a"] = [fault("hang")]
    assert open_filesystem(server.url).read("a") == server.files["/a"]
    assert len(server.requests) >= 2  # more where this machine was silent for as long
    server.faults["/a"] = [fault("hang", 99)]
    with pytest.raises(ExhaustedError, match=r"no byte came for 0 s; given up after 5 attempts"):
        open_filesystem(server.url).read("a")


def test_a_filesystem_works_in_another_process(server) -> None:
    """After a fork, with connections open; and pickled, as spawned workers get it."""
    server.files["/ds/a"] = b"abc"
    code = f"""
import os, pickle, sys
from skelpipe.storage import open_filesystem
filesystem = open_filesystem({server.url + "/ds"!r})
assert filesystem.read("a") == b"abc"
pid = os.fork()
if pid == 0:
    os._exit(0 if filesystem.read("a") == b"abc" else 1)
assert os.waitpid(pid, 0)[1] == 0
assert filesystem.read("a") == b"abc"
assert pickle.loads(pickle.dumps(filesystem)).read("a") == b"abc"
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
    assert len(server.gets()) == 4
    assert pickle.loads(pickle.dumps(open_filesystem(f"{server.url}/ds"))).read("a") == b"abc"
