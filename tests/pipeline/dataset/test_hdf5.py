"""HDF5 files that are cut off, of another card, written by another program or tampered with are refused."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from skelpipe.dataset.hdf5 import map_hdf5
from skelpipe.errors import DatasetError
from skelpipe.prepare import hdf5_writer
from skelpipe.prepare.hdf5_writer import write_hdf5

SHAPE = (3, 16, 25, 2)
VIEWS = ("joint", "bone", "motion")
CARD: dict[str, Any] = {
    "name": "ntu60",
    "title": "NTU RGB+D 60",
    "split": "xsub",
    "profile": {"name": "crosclr", "version": 1},
    "shape": list(SHAPE),
    "layout": {"name": "kinect-v2-25", "joints": [f"joint {v}" for v in range(25)]},
    "classes": ["drink"],
    "digest": "ab" * 32,
}


def ids_of(count: int) -> list[str]:
    return [f"S001C001P001R001A{number:03}" for number in range(count)]


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write `count` random clips of each view, in chunks of a few clips, so that small files have many."""
    monkeypatch.setattr(hdf5_writer, "CHUNK_BYTES", 40_000)

    def write(path: Path, count: int, views: tuple[str, ...] = VIEWS) -> None:
        rng = np.random.default_rng(count)
        clips = {view: [rng.normal(size=(count, *SHAPE)).astype(np.float32)] for view in views}
        write_hdf5(path, ids_of(count), np.zeros(count), clips, SHAPE, "float32", CARD, subset="train")

    return write


def test_a_cut_off_file_never_reads_as_zeros(tmp_path: Path, write) -> None:
    path = tmp_path / "train.h5"
    write(path, 20)
    whole = path.read_bytes()
    with h5py.File(path) as file:
        chunk = file["bone"].id.get_chunk_info(1)
    inside = chunk.byte_offset + chunk.size // 2
    for kept in (0, 7, 50, 1000, len(whole) // 4, chunk.byte_offset, inside, len(whole) - 5000, len(whole) - 1):
        path.write_bytes(whole[:kept])
        for view in VIEWS:
            with pytest.raises(DatasetError, match=r"train\.h5: cannot be read( as HDF5, perhaps cut off)?: "):
                map_hdf5(path, view, ids_of(20), SHAPE, "float32")


def test_what_does_not_fit_the_card_is_named(tmp_path: Path, write) -> None:
    path, ids = tmp_path / "train.h5", ids_of(10)
    write(path, 10, ("joint",))
    swapped = [*ids[:4], ids[5], ids[4], *ids[6:]]
    cases: list[tuple[str, tuple[Any, ...]]] = [
        (rf"sample 4 is {ids[4]!r}, {ids[5]!r} is expected", ("joint", swapped, SHAPE, "float32")),
        (r"id is \S+ \[10\], 9 texts expected", ("joint", ids[:9], SHAPE, "float32")),
        ("has no dataset 'bone'", ("bone", ids, SHAPE, "float32")),
        (r"joint is float32 \[10, 3, 16, 25, 2\], float16 ", ("joint", ids, SHAPE, "float16")),
        (r"float32 \[10, 3, 25, 16, 2\] expected", ("joint", ids, (3, 25, 16, 2), "float32")),
    ]
    for message, arguments in cases:
        with pytest.raises(DatasetError, match=r"train\.h5: .*" + message):
            map_hdf5(path, *arguments)
    with pytest.raises(DatasetError, match=r"none\.h5: cannot be read: No such file"):
        map_hdf5(tmp_path / "none.h5", "joint", ids, SHAPE, "float32")
    path.write_text("a text")
    with pytest.raises(DatasetError, match=r"train\.h5: cannot be read as HDF5"):
        map_hdf5(path, "joint", ids, SHAPE, "float32")


def test_a_chunk_behind_the_end_is_refused_where_hdf5_does_not_mind(tmp_path: Path) -> None:
    """The oldest superblock has no checksum: a file cut off and patched to look whole opens all the same."""
    path = tmp_path / "train.h5"
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        file["id"] = np.array([b"a", b"b", b"c"])
        clips = np.ones((3, *SHAPE), np.float32)
        file.create_dataset("joint", data=clips, chunks=(1, *SHAPE))
    assert len(map_hdf5(path, "joint", ["a", "b", "c"], SHAPE, "float32")[0]) >= 1
    content = bytearray(path.read_bytes())
    kept = len(content) - 100
    assert int.from_bytes(content[40:48], "little") == len(content)
    content[40:48] = kept.to_bytes(8, "little")
    path.write_bytes(content[:kept])
    with h5py.File(path):
        pass
    with pytest.raises(DatasetError, match="ends after the end of the file"):
        map_hdf5(path, "joint", ["a", "b", "c"], SHAPE, "float32")


def gzip(file: h5py.File, clips: np.ndarray) -> None:
    file.create_dataset("joint", data=clips, chunks=(1, *SHAPE), compression="gzip")


def gap(file: h5py.File, clips: np.ndarray) -> None:
    file.create_dataset("joint", clips.shape, clips.dtype, chunks=(1, *SHAPE))[[0, 2]] = clips[:2]


def contiguous(file: h5py.File, clips: np.ndarray) -> None:
    file["joint"] = clips


def in_parts(file: h5py.File, clips: np.ndarray) -> None:
    file.create_dataset("joint", data=clips, chunks=(3, 3, 8, 25, 2))


def swapped_bytes(file: h5py.File, clips: np.ndarray) -> None:
    file.create_dataset("joint", data=clips.astype(">f4"), chunks=(1, *SHAPE))


def in_another_file(file: h5py.File, clips: np.ndarray) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other.create_dataset("joint", data=clips, chunks=(1, *SHAPE))
    file["joint"] = h5py.ExternalLink("other.h5", "joint")


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (gzip, "uncompressed chunks of whole clips"),
        (contiguous, "uncompressed chunks of whole clips"),
        (in_parts, "uncompressed chunks of whole clips"),
        (gap, "the chunk of rows 1 and up is missing"),
        (swapped_bytes, r"joint is >f4"),
        (in_another_file, "has no dataset 'joint'"),
    ],
)
def test_files_kept_in_another_way_are_refused(tmp_path: Path, fill: Callable[..., None], message: str) -> None:
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["id"] = np.array([b"a", b"b", b"c"])
        fill(file, np.ones((3, *SHAPE), np.float32))
    with pytest.raises(DatasetError, match=message):
        map_hdf5(tmp_path / "train.h5", "joint", ["a", "b", "c"], SHAPE, "float32")


def test_a_user_block_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "train.h5", "w", userblock_size=512) as file:
        file["id"] = np.array([b"a"])
        file.create_dataset("joint", data=np.ones((1, *SHAPE), np.float32), chunks=(1, *SHAPE))
    with pytest.raises(DatasetError, match="uncompressed chunks of whole clips"):
        map_hdf5(tmp_path / "train.h5", "joint", ["a"], SHAPE, "float32")


def longer(file: h5py.File) -> None:
    file.create_dataset("id", (3,), "S100000000", chunks=(1,), compression="gzip")


def of_any_length(file: h5py.File) -> None:
    file["id"] = ["a", "b", "c"]


def outside(file: h5py.File) -> None:
    Path(file.filename).with_name("secret").write_bytes(b"abc")
    file.create_dataset("id", (3,), "S1", external=[("secret", 0, 3)])


def virtual(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other["id"] = np.array([b"a", b"b", b"c"])
    layout = h5py.VirtualLayout((3,), "S1")
    layout[:] = h5py.VirtualSource("other.h5", "id", (3,))
    file.create_virtual_dataset("id", layout)


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (longer, "3 texts expected"),
        (of_any_length, "3 texts expected"),
        (outside, "'id' lies in other files"),
        (virtual, "'id' lies in other files"),
    ],
)
def test_ids_that_stand_for_more_than_the_file_holds_are_refused(
    tmp_path: Path, fill: Callable[..., None], message: str
) -> None:
    with h5py.File(tmp_path / "train.h5", "w") as file:
        fill(file)
        file.create_dataset("joint", data=np.ones((3, *SHAPE), np.float32), chunks=(1, *SHAPE))
    tracemalloc.start()
    with pytest.raises(DatasetError, match=message):
        map_hdf5(tmp_path / "train.h5", "joint", ["a", "b", "c"], SHAPE, "float32")
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
