"""HDF5 files as plain h5py sees them, and rows read past HDF5, against the arrays that were written."""

import errno
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.dataset.hdf5 import map_hdf5
from skelpipe.door.refusals import why
from skelpipe.errors import DatasetError, SkelpipeError
from skelpipe.prepare import hdf5_writer
from skelpipe.prepare.hdf5_writer import write_hdf5

SHAPE = (3, 16, 25, 2)
VIEWS = ("joint", "bone", "motion")


def card(shape: tuple[int, ...] = SHAPE, classes: int = 60) -> dict[str, Any]:
    return {
        "generator": "skelpipe 9.9.9",
        "name": "ntu60",
        "title": "NTU RGB+D 60 à l'essai",
        "split": "xsub",
        "profile": {"name": "crosclr", "version": 1},
        "shape": list(shape),
        "dtype": "float32",
        "layout": {"name": "kinect-v2-25", "joints": [f"joint {v}" for v in range(shape[2])], "parents": [0]},
        "classes": [f"class {number}" for number in range(classes)],
        "splits": {"train": {"shards": []}},
        "digest": "ab" * 32,
        "samples_file": {"sha256": "made by one version of pyarrow"},
    }


def clips_of(count: int, shape: tuple[int, ...] = SHAPE, dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    return {view: rng.normal(size=(count, *shape)).astype(dtype) for view in VIEWS}


def ids_of(count: int) -> list[str]:
    return [f"S001C001P001R001A{number:03}" + "é" * (number % 3) for number in range(count)]


def blocks(clips: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(clips), size):
        yield clips[start : start + size]


def write(path: Path, clips: dict[str, np.ndarray], size: int = 7, ids: list[str] | None = None) -> None:
    first = clips["joint"]
    views = {view: blocks(array, size) for view, array in clips.items()}
    labels = np.arange(len(first)) * 3 % 60
    facts = card(first.shape[1:])
    write_hdf5(
        path, ids or ids_of(len(first)), labels, views, first.shape[1:], first.dtype.name, facts, subset="train"
    )


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few clips, so that small files have many."""
    monkeypatch.setattr(hdf5_writer, "CHUNK_BYTES", 40_000)


@given(
    count=st.integers(0, 40),
    shape=st.tuples(st.integers(2, 3), st.integers(1, 20), st.sampled_from([17, 20, 25]), st.integers(1, 2)),
    dtype=st.sampled_from(["float32", "float16"]),
    size=st.integers(1, 50),
)
@settings(max_examples=40)
def test_plain_h5py_and_the_map_see_what_was_written(
    tmp_path: Path, small_chunks, count, shape, dtype, size
) -> None:
    path, clips, ids = tmp_path / "train.h5", clips_of(count, shape, dtype), ids_of(count)
    write(path, clips, size)
    with h5py.File(path, "r") as file:
        assert sorted(file) == ["bone", "id", "joint", "label", "motion"]
        assert [id_.decode() for id_ in file["id"][:]] == ids
        assert file["label"].dtype == np.int64
        assert file["label"][:].tolist() == [number * 3 % 60 for number in range(count)]
        for view in VIEWS:
            assert file[view].dtype == dtype
            assert file[view].shape == (count, *shape)
            assert np.array_equal(file[view][:], clips[view])
            if count:
                assert file[view].chunks[1:] == shape
    for view in VIEWS:
        runs = map_hdf5(path, view, ids, shape, dtype)
        assert all(run.dtype == dtype and run.ndim == 2 for run in runs)
        assert np.array_equal(
            np.concatenate([clips[view][:0].reshape(0, np.prod(shape)), *runs]).ravel(), clips[view].ravel()
        )


def test_chunks_are_about_a_mebibyte_and_runs_are_long(tmp_path: Path) -> None:
    """Row order holds over many chunks, between which HDF5 keeps parts of its index."""
    shape, count = (3, 64, 25, 2), 2000
    numbers = np.zeros((count, *shape), np.float16)
    numbers[:, 0, 0, 0, 0] = np.arange(count)
    numbers[:, -1, -1, -1, -1] = -np.arange(count)
    path = tmp_path / "train.h5"
    write(path, {"joint": numbers, "bone": numbers[::-1]}, 333)
    with h5py.File(path) as file:
        assert 0.9 < file["joint"].chunks[0] * 3 * 64 * 25 * 2 * 2 / 2**20 <= 1
        assert file["joint"].compression is None
    for view, order in (("joint", np.arange(count)), ("bone", np.arange(count)[::-1])):
        runs = map_hdf5(path, view, ids_of(count), shape, "float16")
        assert len(runs) <= 3
        rows = np.concatenate([run[:, [0, -1]] for run in runs])
        assert np.array_equal(rows, np.stack([order, -order], axis=1))
        with pytest.raises(ValueError, match="read-only"):
            runs[0][:] = 0


def test_attributes_say_what_the_data_is(tmp_path: Path) -> None:
    write(tmp_path / "test.h5", clips_of(3))
    with h5py.File(tmp_path / "test.h5") as file:
        facts = dict(file.attrs)
    assert facts["name"] == "ntu60"
    assert facts["title"] == "NTU RGB+D 60 à l'essai"
    assert facts["axes"] == "sample channel frame joint body"
    assert (facts["units"], facts["side"], facts["frames"]) == ("metres", "train", 16)
    assert facts["classes"].tolist() == [f"class {number}" for number in range(60)]
    assert facts["joints"].tolist()[3] == "joint 3"
    text = json.loads(facts["card"])
    assert text["layout"]["parents"] == [0]
    assert text["digest"] == facts["digest"] == "ab" * 32
    assert not {"generator", "splits", "samples_file"} & set(text)


def test_very_long_facts_fit(tmp_path: Path) -> None:
    facts = card(classes=9000) | {"terms": "x" * 200_000}
    write_hdf5(tmp_path / "a.h5", [], np.zeros(0), {"joint": []}, SHAPE, "float32", facts, subset="test")
    with h5py.File(tmp_path / "a.h5") as file:
        assert json.loads(file.attrs["card"])["terms"] == "x" * 200_000
        assert len(file.attrs["classes"]) == 9000
        assert file["joint"].shape == (0, *SHAPE)


def test_same_content_same_bytes(tmp_path: Path, small_chunks) -> None:
    clips = clips_of(20)
    write(tmp_path / "a.h5", clips, 3)
    time.sleep(1.1)  # HDF5 would keep whole seconds
    write(tmp_path / "b.h5", clips, 20)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_memory_is_bounded(tmp_path: Path) -> None:
    count = 1600
    block = np.ones((8, 3, 64, 25, 2), np.float32)
    views = {"joint": (block for _ in range(count // 8))}
    facts = card((3, 64, 25, 2))
    tracemalloc.start()
    write_hdf5(
        tmp_path / "a.h5", ids_of(count), np.zeros(count), views, (3, 64, 25, 2), "float32", facts, subset="train"
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "a.h5").stat().st_size > 60e6
    assert peak < 6e6


def test_clips_that_do_not_fit_leave_nothing_behind(tmp_path: Path, small_chunks) -> None:
    path, clips = tmp_path / "train.h5", clips_of(10)
    for count in (9, 11):
        with pytest.raises(DatasetError, match=rf"train\.h5: view bone: .*{count} clips"):
            write(path, clips | {"bone": clips_of(count)["bone"]})
    with pytest.raises(DatasetError, match=r"view bone: clips \[3, 16, 20, 2\], \[3, 16, 25, 2\] expected"):
        write(path, clips | {"bone": clips["bone"][:, :, :, :20]})
    with pytest.raises(DatasetError, match="10 ids, 9 labels"):
        write_hdf5(path, ids_of(10), np.zeros(9), {}, SHAPE, "float32", card(), subset="train")
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
import numpy as np
from skelpipe.errors import SkelpipeError
from skelpipe.prepare.hdf5_writer import write_hdf5
path, limit = Path(sys.argv[1]), int(sys.argv[2])
card = dict(name="n", title="t", split="s", digest="d", profile=dict(name="p", version=1), classes=["a"],
            shape=(3, 64, 25, 2), layout=dict(name="l", joints=["j"]))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
blocks = (np.ones((30, 3, 64, 25, 2), np.float32) for _ in range(4))
try:
    write_hdf5(path, [str(i) for i in range(120)], np.zeros(120), {"joint": blocks}, (3, 64, 25, 2), "float32",
               card, subset="train")
except SkelpipeError as error:
    print(error)
open_files = [link.resolve().name for link in Path("/proc/self/fd").iterdir()]
assert not [name for name in open_files if "h5" in name], open_files
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files, lists open ones")
@pytest.mark.parametrize("limit", [1000, 200_000, 3_000_000])
def test_a_full_target_is_one_message_and_nothing_is_left(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "train.h5"
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", FULL, str(path), str(limit)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60, env=env)
    assert run.stdout == f"{path}: cannot be written: {why(OSError(errno.EFBIG, ''))}\n"
    assert (run.stderr, run.returncode) == ("", 0)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_target_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(SkelpipeError, match=r"train\.h5: cannot be written"):
        write(tmp_path / "out" / "train.h5", clips_of(2))
