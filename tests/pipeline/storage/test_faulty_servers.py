"""Servers that answer wrongly, over HTTP and S3: one line, few requests, little memory, and no secret in it."""

import re
import resource
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from faulty_server import FAULTS, OVER_S3, S3_ERRORS, Fault, FaultyServer, head, once, sent

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError, SkelpipeError
from skelpipe.storage import open_filesystem, retry
from skelpipe.storage.filesystem import Filesystem, read_whole

SECRET = "wJalrXUtnFEMI"
CONTENT = bytes(range(256)) * 256
MOST = 1 << 20  # bytes that are read at most
MEMORY = 8 << 20  # that this may take, with the server's own
SECONDS = 20.0  # that a machine at work may take for the silences, of half a second each
SENT = 24 << 20  # bytes that a server gets rid of, most of them into the buffers of its sockets
ATTEMPTS = 3
PIECE = 1 << 15  # what has come in whole pieces is kept when a connection breaks
NEVER = "never"  # a wrong answer that nobody can tell from a right one: the hash of a file does


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch, fast_retries: None) -> None:
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=ATTEMPTS, first=0.002, longest=0.01))
    for module in ("http", "bucket", "urls", "retry"):
        monkeypatch.setattr(f"skelpipe.storage.{module}.SILENT_SECONDS", 0.5)
    monkeypatch.setattr("skelpipe.storage.bucket.SLOWEST", 1 << 30)
    for module in ("http", "urls"):
        monkeypatch.setattr(f"skelpipe.storage.{module}.CONNECT_SECONDS", 0.5)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def outcome(filesystem: Filesystem) -> bytes | str:
    """Return what is read, or the message; that is one line, which shows no secret and hides no other error."""
    caught: SkelpipeError
    try:
        return read_whole(filesystem.stream("a", PIECE), MOST, f"{filesystem}/a")
    except SkelpipeError as error:
        caught = error
    text = str(caught)
    assert caught.__suppress_context__ or caught.__context__ is None
    assert text.isprintable()
    assert len(text) < 700
    assert SECRET not in text
    return text


@pytest.mark.parametrize("kind", FAULTS)
def test_an_answer_over_http(kind: str, traced: None) -> None:
    fault, start = FAULTS[kind], time.monotonic()
    with FaultyServer(CONTENT, fault) as server:
        url = server.url.replace("://", f"://me:{SECRET}@")
        found = outcome(open_filesystem(f"{url}/ds?sig={SECRET}"))
        requests, bytes_sent = len(server.requests), server.sent
    assert time.monotonic() - start < SECONDS
    if fault.passes:
        assert found == CONTENT
    elif fault.says == NEVER:
        assert found != CONTENT
    else:
        assert isinstance(found, str), "taken for the file"
        assert any(words in found for words in fault.says.split("|")), found
        assert found.startswith(f"{server.url}/ds/a: ")
    assert requests <= min(fault.attempts, ATTEMPTS * 6)
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    assert bytes_sent < SENT * max(requests, 1)


@pytest.mark.parametrize("kind", [kind for kind, fault in FAULTS.items() if fault.says == NEVER])
def test_what_only_the_hash_of_a_card_tells(kind: str) -> None:
    with (
        FaultyServer(CONTENT, FAULTS[kind]) as server,
        pytest.raises(DatasetError, match=r"dataset\.json: is not the card of a skelpipe dataset"),
    ):
        Dataset.open(f"{server.url}/ds")


def s3_answer(status: str, code: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no {SECRET}</Message></Error>"
    return head(status, "Content-Type: application/xml", length=len(body)) + body.encode()


S3_FAULTS = {
    **{kind: FAULTS[kind] for kind in OVER_S3},
    **{name: Fault(sent(s3_answer(*facts)), "cannot be read") for name, facts in S3_ERRORS.items()},
    **{
        f"{name} once": Fault(once(sent(s3_answer(*S3_ERRORS[name]))), passes=True)
        for name in ("slow down", "internal error")
    },
}


@pytest.mark.parametrize("kind", S3_FAULTS)
def test_an_answer_over_s3(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ACCESS_KEY_ID": "AKIAEXAMPLE",
        "SECRET_ACCESS_KEY": SECRET,
        "EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    fault = S3_FAULTS[kind]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with FaultyServer(CONTENT, fault) as server:
        where = f"endpoint_override=127.0.0.1:{server.port}&scheme=http&region=us-east-1"
        found = outcome(open_filesystem(f"s3://bucket/ds?{where}"))
        requests = len(server.requests)
    assert time.monotonic() - start < SECONDS
    if fault.passes:
        assert found == CONTENT
    elif found != b"":  # pyarrow takes a file without a length for an empty one
        assert isinstance(found, str), "taken for the file"
        assert found.startswith("s3://bucket/ds/a: ")
    assert requests <= 4 * ATTEMPTS
    assert pa.default_memory_pool().max_memory() < 256 << 20
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < 256 << 20


def test_the_page_on_robustness_counts_the_answers() -> None:
    page = (Path(__file__).parents[3] / "docs" / "robustness.md").read_text()
    said = re.search(
        r"(\d+) answers\s+over\s+HTTP.*?(\d+)\s+of\s+them,\s+and\s+(\d+)\s+errors\s+of\s+S3", page, re.DOTALL
    )
    assert said is not None
    assert [int(count) for count in said.groups()] == [len(FAULTS), len(OVER_S3), len(S3_ERRORS)]
