"""Files in a bucket, through pyarrow's own S3 client, against a small server of the S3 protocol on loopback."""

import hashlib
import io
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.dataset.verify import damages
from skelpipe.errors import DatasetError, SkelpipeError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.prepare.copy import copy_dataset
from skelpipe.storage import open_filesystem
from skelpipe.storage.bucket import BucketFilesystem

PART = 12 << 20  # more than the client sends in one part
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


class Bucket(ThreadingHTTPServer):
    """Objects in memory by path; a multipart upload becomes an object when it is completed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[str] = []
        self.refused = ""  # if not empty, every request is refused with this message
        self.endless = False  # each page of a listing says that there is another one
        self.silent = ""  # requests that begin with this are not answered
        self.released = threading.Event()

    def url(self, prefix: str, user_info: str = "") -> str:
        return f"s3://{user_info}bucket/{prefix}?endpoint_override=127.0.0.1:{self.server_port}&scheme=http"


def unchunked(file: BinaryIO) -> bytes:
    """Decode chunks of HTTP, and of S3 within them: lines of sizes in hexadecimal before pieces, trailers last."""
    content = b""
    while size := int(file.readline().split(b";")[0], 16):
        content += file.read(size)
        file.readline()
    while file.readline().strip():
        pass
    return content


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Bucket

    def log_message(self, *_: object) -> None:
        pass

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = unchunked(self.rfile)
        if self.headers.get("Content-Encoding") == "aws-chunked":
            body = unchunked(io.BytesIO(body))
        parts = urlsplit(self.path)
        key, query = unquote(parts.path).removeprefix("/bucket").strip("/"), parse_qs(parts.query, True)
        self.server.requests.append(f"{self.command} {key}")
        if self.server.silent and self.server.requests[-1].startswith(self.server.silent):
            self.server.released.wait(120)
        if self.server.refused:
            self.answer(403, f"<Error><Code>Denied</Code><Message>{self.server.refused}</Message></Error>")
        elif not unquote(parts.path).startswith("/bucket"):
            self.answer(404)
        elif "uploads" in query or "uploadId" in query:
            self.upload(key, query, body)
        elif self.command == "PUT":
            self.server.objects[key] = body
            self.answer(200)
        elif self.command == "DELETE":
            self.server.objects.pop(key, None)
            self.answer(204)
        elif not key:
            self.listing(query)
        else:
            self.object(key)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def answer(self, code: int, body: str | bytes = b"", **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def upload(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        if "uploads" in query:
            upload = f"upload-{len(self.server.requests)}"
            self.server.uploads[upload] = {}
            tags = f"<Bucket>bucket</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
            self.answer(200, f"<InitiateMultipartUploadResult>{tags}</InitiateMultipartUploadResult>")
        elif self.command == "PUT":
            self.server.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
            self.answer(200, ETag='"part"')
        else:
            parts = self.server.uploads.pop(query["uploadId"][0])
            named = [
                int(number.text) for number in ET.fromstring(body).iter() if number.tag.endswith("PartNumber")
            ]
            self.server.objects[key] = b"".join(parts[number] for number in named)
            self.answer(200, f"<CompleteMultipartUploadResult><Key>{key}</Key></CompleteMultipartUploadResult>")

    def listing(self, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size></Contents>"
            for key, content in sorted(self.server.objects.items())
            if key.startswith(prefix)
        )
        more = "<IsTruncated>false</IsTruncated>"
        if self.server.endless:
            page = len(self.server.requests)
            rows = "".join(f"<Contents><Key>{prefix}{page}-{n}</Key><Size>1</Size></Contents>" for n in range(100))
            more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{page}</NextContinuationToken>"
        self.answer(200, f"<ListBucketResult>{more}{rows}</ListBucketResult>")

    def object(self, key: str) -> None:
        content = self.server.objects.get(key)
        if content is None:
            self.answer(404)
            return
        modified = {"Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "ETag": '"object"'}
        if span := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = int(span[1]), min(int(span[2]), len(content) - 1)
            whole = f"bytes {first}-{last}/{len(content)}"
            self.answer(206, content[first : last + 1], Content_Range=whole, **modified)
        elif self.command == "HEAD":
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
        else:
            self.answer(200, content, **modified)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = Bucket()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_files_of_a_prefix(bucket) -> None:
    filesystem = open_filesystem(bucket.url("data/ds"))
    assert str(filesystem) == "s3://bucket/data/ds"
    assert filesystem.names() == []
    assert filesystem.size("train/a.tar") is None
    content = bytes(range(256)) * (PART // 256)
    filesystem.write("train/a.tar", [content[:PART], content[PART:]])
    filesystem.child("train").write("empty.gz", [])
    assert bucket.objects["data/ds/train/a.tar"] == content
    bucket.objects["data/ds-other/b"] = bucket.objects["outside"] = b""
    assert filesystem.names() == ["train/a.tar", "train/empty.gz"]
    assert filesystem.child("train").names() == ["a.tar", "empty.gz"]
    assert filesystem.size("train/a.tar") == len(content)
    assert filesystem.read("train/a.tar") == content
    assert filesystem.read("train/empty.gz") == b""
    filesystem.remove("train/a.tar")
    assert "data/ds/train/a.tar" not in bucket.objects


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [("LISTING_SECONDS", 0.3, "did not end in 0 s"), ("LISTING_BYTES", 0, r"grew past \d+ MiB")],
)
def test_a_listing_without_end_is_given_up(bucket, monkeypatch, limit: str, value: float, says: str) -> None:
    bucket.endless = True
    monkeypatch.setattr(f"skelpipe.storage.bucket.{limit}", value)
    begun = time.monotonic()
    try:
        with pytest.raises(SkelpipeError, match=rf"^s3://bucket/a: cannot be listed: its list {says}$"):
            open_filesystem(bucket.url("a")).names()
    finally:
        bucket.endless = False  # the client's own thread reads on
    assert time.monotonic() - begun < 10


def test_a_file_is_read_in_large_requests(bucket) -> None:
    bucket.objects["ds/a"] = bytes(3 << 20)
    pieces = list(open_filesystem(bucket.url("ds")).stream("a", 1 << 20))
    assert [len(piece) for piece in pieces] == [1 << 20] * 3
    assert bucket.requests.count("GET ds/a") <= 3


@pytest.mark.parametrize(("length", "begun"), [(10, False), (PART, True)])
def test_an_upload_whose_source_fails_never_completes(bucket, length, begun) -> None:
    """Also not when the process ends, at which pyarrow completes what it still holds."""
    bucket.objects["ds/a"] = b"as before"
    code = f"""
from skelpipe.storage import open_filesystem
from skelpipe.storage.bucket import BucketFilesystem
def pieces():
    yield bytes({length})
    raise KeyError("the source failed")
try:
    open_filesystem({bucket.url("ds")!r}).write("a", pieces())
except KeyError as error:
    print(error)
import gc; gc.collect()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "the source failed" in done.stdout
    assert ("POST ds/a" in bucket.requests) == begun  # a small file is sent whole, in one request, or not at all
    assert bucket.objects == {"ds/a": b"as before"}


def test_errors_name_url_and_file_and_show_no_secret(bucket) -> None:
    quoted = SECRET.replace("/", "%2F")
    filesystem = open_filesystem(bucket.url("ds", user_info=f"AKIAEXAMPLE:{quoted}@"))
    assert str(filesystem) == "s3://bucket/ds"
    with pytest.raises(SkelpipeError, match=r"s3://bucket/ds/train/a: cannot be read: no such file or bucket"):
        filesystem.read("train/a")
    bucket.refused = f"signature of AKIAEXAMPLE with {SECRET} is wrong"
    for call in (
        lambda: filesystem.size("a"),
        filesystem.names,
        lambda: filesystem.write("a", [b""]),
        lambda: filesystem.remove("a"),
    ):
        with pytest.raises(SkelpipeError, match=r"^s3://bucket/ds(/a)?: cannot be") as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        for secret in (SECRET, quoted, "AKIAEXAMPLE", "endpoint"):
            assert secret not in message
        assert caught.value.__suppress_context__


def test_a_server_that_is_not_there_is_an_error(bucket) -> None:
    url = bucket.url("ds").replace(f":{bucket.server_port}", ":1")
    with pytest.raises(SkelpipeError, match=r"s3://bucket/ds: cannot be listed: .*CONNECTION"):
        open_filesystem(url).names()


@pytest.mark.parametrize("silent", ["PUT ds/t", "PUT ds/.prepare-owner"])
def test_ctrl_c_ends_a_copy_to_a_bucket_that_does_not_answer(
    silent, bucket, raw_folder, ntu_names, tmp_path
) -> None:
    options = Options("xsub", 10, 2, 5)
    prepare(load_manifest("ntu60"), [raw_folder(ntu_names())], tmp_path / "ds", options, quiet=True)
    bucket.silent = silent
    words = ["-m", "skelpipe", "copy", "--workers", "2", str(tmp_path / "ds"), bucket.url("ds")]
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not [each for each in bucket.requests if each.startswith(silent)]:
            time.sleep(0.02)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    print("took", time.monotonic() - begun)
    assert time.monotonic() - begun < 20  # the client itself would wait for minutes
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("Interrupted: ")
    assert not [name for name in bucket.objects if name.startswith("ds/")]


def test_a_dataset_goes_to_a_bucket_and_back(bucket, raw_folder, ntu_names, tmp_path) -> None:
    prepare(
        load_manifest("ntu60"), [raw_folder(ntu_names())], tmp_path / "ds", Options("xsub", 10, 2, 5), quiet=True
    )
    wanted = {
        str(path.relative_to(tmp_path / "ds")): path.read_bytes()
        for path in (tmp_path / "ds").rglob("*")
        if path.is_file()
    }
    source, remote, back = (
        open_filesystem(tmp_path / "ds"),
        open_filesystem(bucket.url("a/ds")),
        open_filesystem(tmp_path / "back"),
    )
    report = copy_dataset(source, remote, workers=3, quiet=True)
    assert (report.copied, report.bytes) == (len(wanted), sum(map(len, wanted.values())))
    bucket.objects.pop("a/ds")  # what pyarrow leaves in place of a folder when a file is removed
    assert bucket.objects == {f"a/ds/{name}": content for name, content in wanted.items()}
    stored = [request for request in bucket.requests if request.startswith("PUT a/ds/")]
    assert (stored[0], stored[-1]) == ("PUT a/ds/.prepare-owner.json", "PUT a/ds/dataset.json")
    assert copy_dataset(source, remote, workers=3, quiet=True).was_complete
    copy_dataset(remote, back, workers=3, quiet=True)
    assert damages(Dataset.open(tmp_path / "back"), quiet=True) == []
    bucket.objects["a/ds/train/joint/000001.tar"] = b"damaged"
    with pytest.raises(DatasetError, match=r"s3://bucket/a/ds/train/joint/000001\.tar: damaged at the source"):
        copy_dataset(remote, open_filesystem(tmp_path / "other"), quiet=True)
    assert copy_dataset(source, remote, quiet=True).copied == 1
    content = wanted["train/joint/000001.tar"]
    assert (
        hashlib.sha256(bucket.objects["a/ds/train/joint/000001.tar"]).digest() == hashlib.sha256(content).digest()
    )


class _Ranges:
    """A client whose answers to later ranges come first; a `short` one lacks its last bytes once."""

    def __init__(self, content: bytes, short: int | None = None) -> None:
        self.content, self.short = content, short
        self.running = self.most = 0
        self.lock = threading.Lock()

    def open_input_file(self, _path: str) -> "_Ranges":
        return self

    def size(self) -> int:
        return len(self.content)

    def read_at(self, count: int, at: int) -> bytes:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.004 if at // count % 2 == 0 else 0)
        with self.lock:
            self.running -= 1
            if self.short is not None and at <= self.short < at + count:
                end, self.short = self.short, None
                return self.content[at:end]
        return self.content[at : at + count]


@pytest.mark.parametrize("short", [None, 12, 21])
def test_ranges_that_arrive_in_any_order_are_joined_in_theirs(short: int | None) -> None:
    content = bytes(np.random.default_rng(0).integers(0, 256, 103, np.uint8))
    client = _Ranges(content, short)
    filesystem = BucketFilesystem(cast("Any", SimpleNamespace(get=lambda _: client)), "bucket/x", "s3://bucket/x")
    pieces = list(filesystem.stream("name", 10))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) == 10
    assert client.most > 1
