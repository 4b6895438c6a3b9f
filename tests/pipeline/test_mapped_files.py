"""Mapped files that become shorter, vanish or fail: an error with the name, never SIGBUS and never zeros."""

import errno
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skelpipe import mapped_files
from skelpipe.errors import DatasetError
from skelpipe.mapped_files import confirm, map_file, map_open_file, reading

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SIGBUS is an error on 64-bit Linux only")
PAGE = os.sysconf("SC_PAGE_SIZE")
SIZE = 5 * PAGE + 100


@pytest.fixture
def content() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)


@pytest.fixture
def path(tmp_path: Path, content: np.ndarray) -> Path:
    path = tmp_path / "train-0001.tar"
    path.write_bytes(content.tobytes())
    return path


def test_no_descriptor_stays_open_and_a_file_is_mapped_once(path: Path, content: np.ndarray) -> None:
    before = len(os.listdir("/proc/self/fd"))
    first = map_file(path)
    again = map_file(path)
    assert len(os.listdir("/proc/self/fd")) == before
    assert np.array_equal(first, content)
    assert np.shares_memory(first, again)
    assert not first.flags.writeable
    maps = Path("/proc/self/maps").read_text()
    assert maps.count(path.name) == 1
    view = first[PAGE:]
    del first, again
    assert view[0] == content[PAGE]
    del view
    assert path.name not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("left", [0, 1, PAGE, 2 * PAGE + 7])
def test_a_file_that_shrinks_is_named(path: Path, content: np.ndarray, left: int) -> None:
    mapped = map_file(path)
    os.truncate(path, left)
    with pytest.raises(DatasetError) as caught:
        reading(lambda: int(mapped.sum()))
    assert (
        str(caught.value) == f"{path}: was changed while it was in use: it had {SIZE:,} bytes, now it has {left:,}"
    )
    assert reading(lambda: 1) == 1  # what other files hold can be read
    with pytest.raises(DatasetError):  # and it stays so, from the first byte on
        reading(lambda: int(mapped[0]))


def test_a_file_that_is_the_same_again_is_read_again(path: Path, content: np.ndarray) -> None:
    """As after a stale handle: the bytes come from the file of that name, if size and time are what they were."""
    mapped, facts = map_file(path), os.stat(path)
    broken: list[int] = []

    def read() -> np.ndarray:
        if not broken:
            os.truncate(path, 0)
            broken.append(int(mapped[-1]))
            path.write_bytes(content.tobytes())
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        return mapped.copy()

    assert np.array_equal(reading(read), content)
    assert broken == [0]


def test_an_error_that_comes_of_the_zeros_is_not_the_one_that_is_raised(path: Path, content: np.ndarray) -> None:
    mapped = map_file(path)

    def read() -> None:
        os.truncate(path, PAGE)
        if mapped[-1] != content[-1]:
            raise ValueError("not the card's shard")

    with pytest.raises(DatasetError, match="was changed while it was in use"):
        reading(read)
    with pytest.raises(ZeroDivisionError):
        reading(lambda: 1 // 0)


def test_another_thread_of_reading_repeats_too(path: Path, content: np.ndarray) -> None:
    """A fault that somebody else's reading met makes this one repeat what it read meanwhile."""
    mapped, runs = map_file(path), []

    def read() -> int:
        runs.append(len(runs))
        if len(runs) == 1:
            mapped_files._table().rows[-1, 0] += 1  # as the handler counts
        return int(mapped[0])

    assert reading(read) == content[0]
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EIO, "cannot be read at byte 0: Input/output error"),
        (errno.ESTALE, "cannot be read at byte 0: Stale file handle"),
    ],
)
def test_a_disk_that_fails_is_named(path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str) -> None:
    mapped = map_file(path)
    facts = os.stat(path)

    def fail(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    def read() -> int:
        os.truncate(path, 0)
        found = int(mapped[0])
        os.truncate(path, SIZE)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        return found

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(DatasetError) as caught:
        reading(read)
    assert str(caught.value) == f"{path}: {text}"


def test_a_stale_handle_is_opened_once_more(
    path: Path, content: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = os.open, []

    def stale(*arguments: object) -> int:
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", stale)
    assert np.array_equal(map_file(path), content)

    def always(*_: object) -> int:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "open", always)
    with pytest.raises(DatasetError, match="cannot be read: Stale file handle"):
        map_file(path)


def test_what_others_do_to_a_file_is_noticed(path: Path, content: np.ndarray) -> None:
    def damaged(change: Callable[[], object]) -> str:
        path.write_bytes(content.tobytes())
        mapped = map_file(path)
        confirm([mapped])
        change()
        with pytest.raises(DatasetError) as caught:
            confirm([mapped[10:20].reshape(2, 5)])
        return str(caught.value)

    assert damaged(path.unlink) == f"{path}: was removed while it was in use"
    assert damaged(lambda: os.truncate(path, SIZE - 1)).endswith(f"it had {SIZE:,} bytes, now it has {SIZE - 1:,}")
    assert damaged(lambda: os.utime(path, ns=(1, 1))) == f"{path}: was overwritten while it was in use"


def test_a_file_that_another_replaced_is_read_as_it_was(path: Path, content: np.ndarray) -> None:
    mapped = map_file(path)
    path.with_name("new").write_bytes(b"other")
    os.replace(path.with_name("new"), path)
    confirm([mapped, content])
    assert np.array_equal(reading(mapped.copy), content)


def test_an_open_file_without_a_name_stays_readable(tmp_path: Path, content: np.ndarray) -> None:
    with tempfile.TemporaryFile(buffering=0, dir=tmp_path) as file:
        file.write(content.tobytes())
        mapped = map_open_file(file, "s3://lab/train-0001.tar")
        os.ftruncate(file.fileno(), 0)
    with pytest.raises(DatasetError, match=r"^s3://lab/train-0001.tar: cannot be read at byte 0: its temporary"):
        reading(lambda: int(mapped[0]))


@pytest.mark.parametrize("why", ["missing", "empty", "folder"])
def test_what_cannot_be_mapped_is_named(tmp_path: Path, why: str) -> None:
    path = tmp_path / "x.tar"
    if why == "empty":
        path.touch()
    if why == "folder":
        path.mkdir()
    with pytest.raises(DatasetError, match=f"^{path}: cannot be read: "):
        map_file(path)


def test_the_signal_is_taken_back_from_who_has_taken_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lightning's trainer does at its end: it sets every signal to what Python knows of it."""
    monkeypatch.setattr(mapped_files, "KEPT_SECONDS", 0.0)
    mapped = map_file(path)
    signal.signal(signal.SIGBUS, signal.getsignal(signal.SIGBUS))
    os.truncate(path, 0)
    with pytest.raises(DatasetError, match="now it has 0"):
        reading(lambda: int(mapped.sum()))
