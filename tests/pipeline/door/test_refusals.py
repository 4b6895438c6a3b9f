"""A full or read-only disk in words, whichever library writes, and nothing half-written."""

import errno
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from skelpipe.door.refusals import refusal, why
from skelpipe.errors import SkelpipeError
from skelpipe.files import replacing

NOISE = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)  # nothing compresses it


def save_h5(file: IO[bytes]) -> None:
    with h5py.File(file, "w") as content:
        content["noise"] = NOISE


WRITERS: dict[str, Callable[[IO[bytes]], Any]] = {
    "bytes": lambda file: file.write(NOISE.tobytes()),
    "numpy": lambda file: np.save(file, NOISE),
    "npz": lambda file: np.savez_compressed(file, noise=NOISE),
    "torch": lambda file: torch.save(torch.from_numpy(NOISE), file),
    "parquet": lambda file: pq.write_table(pa.table({"noise": NOISE}), file),
    "hdf5": save_h5,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_says_that_the_disk_is_full(name: str, disk: Any) -> None:
    path = disk.folder / "out"
    path.write_bytes(b"before")
    with (
        disk.full(100_000),
        pytest.raises(
            SkelpipeError,
            match=rf"^{re.escape(str(path))}: cannot be written: ({disk.words}|the disk is full, or)",
        ),
        replacing(path) as file,
    ):
        WRITERS[name](file)
    assert path.read_bytes() == b"before"
    assert list(disk.folder.iterdir()) == [path]
    with replacing(path) as file:
        WRITERS[name](file)
    assert path.stat().st_size >= len(NOISE)


def test_what_is_needed_and_what_is_free(tmp_path: Path) -> None:
    full, free = OSError(errno.ENOSPC, "No space left on device"), r"\d+\.\d .B"
    known, unknown = refusal(full, tmp_path, 12_345_678), refusal(full, tmp_path)
    assert re.fullmatch(rf"the disk is full: the file needs 12\.3 MB, and {free} are free", known or "")
    assert re.fullmatch(rf"the disk is full: the file needs more than the {free} that are free", unknown or "")
    assert refusal(full, tmp_path / "gone") == "the disk is full"


def test_the_reason_at_the_bottom_of_an_error_counts(tmp_path: Path) -> None:
    for said, words in (
        ("x: No space left on device (os error 28)", "the disk is full: the file needs more than"),
        ("16 requested and 8 written", "the disk is full, or the file would be larger"),
        ("write failed: Disk quota exceeded", "the quota of this user"),
        ("File too large", "the file would be larger"),
    ):
        outer = RuntimeError("writing failed")
        outer.__cause__ = ValueError(said)
        assert (refusal(outer, tmp_path) or "").startswith(words)
    assert refusal(RuntimeError("a fault"), tmp_path) is None
    assert refusal(ValueError("a fault"), tmp_path) is None
    assert refusal(OSError(errno.EACCES, "Permission denied"), tmp_path) == "Permission denied"
    assert refusal(io.UnsupportedOperation("seek"), tmp_path) == "seek"


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EROFS, "read-only"), (errno.EDQUOT, "quota"), (errno.EFBIG, "ulimit -f"), (errno.ENOENT, "no such")],
)
def test_words(number: int, words: str) -> None:
    assert words in why(OSError(number, "no such file"))


def test_a_read_only_disk(disk: Any) -> None:
    path = disk.folder / "out"
    with (
        disk.read_only(),
        pytest.raises(SkelpipeError, match=rf"out: cannot be written: {disk.read_only_words}"),
        replacing(path) as file,
    ):
        file.write(b"1")
    assert list(disk.folder.iterdir()) == []
