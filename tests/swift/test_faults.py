"""Reading a dataset from a bucket whose connection fails: what passes changes nothing, what stays is a line."""

import resource
import time
from typing import Any

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
from skelpipe.storage import retry

SHARD = r"GET \S*train/joint/000000[.]tar"
SECONDS, MEMORY = 40.0, 128 << 20  # that a fault which stays may take
EXPIRED = ("400 Bad Request", "ExpiredToken")
# What happens to the connection, and words of the message where it stays.
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "503": ({"answer": ("503 Slow Down", "SlowDown")}, "given up after"),
    "500": ({"answer": ("500 Internal Server Error", "InternalError")}, "given up after"),
    "reset": ({"then": "reset", "after": 4000}, "given up after"),
    "short": ({"then": "close", "after": 4000}, "given up after"),
    "wrong bytes": ({"then": "flip", "after": 40_000}, "their sha256 differs from the card"),
    "hang": ({"then": "hang", "after": 4000}, "given up after"),
    "expired credentials": ({"answer": EXPIRED}, "access is refused|cannot be read"),
}


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=3, first=0.002, longest=0.01))
    for module in ("bucket", "urls"):
        monkeypatch.setattr(f"skelpipe.storage.{module}.SILENT_SECONDS", 1.0)
    monkeypatch.setattr("skelpipe.storage.bucket.SLOWEST", 1 << 30)


@pytest.fixture
def stored(store: Any, prepared: Any) -> Any:
    filesystem = store.filesystem()
    for name, content in prepared.files().items():
        filesystem.write(name, [content])
    return store


def add(proxy: Any, kind: str, times: int) -> None:
    what = dict(FAULTS[kind][0])
    if "answer" in what:
        what["answer"] = proxy.refusal(*what["answer"])
    proxy.add(SHARD, times=times, **what)


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind != "expired credentials"])
def test_a_fault_that_passes_changes_no_clip(kind: str, stored: Any, proxy: Any, prepared: Any) -> None:
    expected = Dataset.open(prepared.folder).reader("train", "joint")
    rows = np.arange(len(expected))
    add(proxy, kind, times=1)
    found = Dataset.open(stored.url(port=proxy.port)).reader("train", "joint").gather(rows)
    assert np.array_equal(found, expected.gather(rows))


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_that_stays_is_one_line(kind: str, stored: Any, proxy: Any) -> None:
    dataset = Dataset.open(stored.url(port=proxy.port))
    dataset.ids("train")
    add(proxy, kind, times=1000)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(SkelpipeError) as caught:
        dataset.reader("train", "joint").gather(np.arange(1))
    assert time.monotonic() - start < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < MEMORY
    text = str(caught.value)
    assert any(words in text for words in FAULTS[kind][1].split("|")), text
    assert "train/joint/000000.tar: " in text
    assert text.isprintable()
    assert not any(secret in text for secret in stored.server.environment.values() if len(secret) > 8)
    assert len([each for each in proxy.requests if "000000.tar" in each]) <= 12
