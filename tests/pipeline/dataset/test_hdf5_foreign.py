"""HDF5 files that another program wrote, or that were tampered with: what cannot be mapped safely is refused."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from skelpipe.dataset.hdf5 import map_hdf5
from skelpipe.errors import DatasetError

SHAPE = (3, 16, 25, 2)


def test_a_chunk_behind_the_end_is_refused_where_hdf5_does_not_mind(tmp_path: Path) -> None:
    """The oldest superblock has no checksum: a file cut off and patched to look whole opens all the same."""
    path = tmp_path / "train.h5"
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        file["id"] = [b"a", b"b", b"c"]
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
    with pytest.raises(DatasetError, match="behind the file's end"):
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


def elsewhere(file: h5py.File, clips: np.ndarray) -> None:
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
        (elsewhere, "has no dataset 'joint'"),
    ],
)
def test_files_kept_in_another_way_are_refused(tmp_path: Path, fill: Callable[..., None], message: str) -> None:
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["id"] = ["a", "b", "c"]
        fill(file, np.ones((3, *SHAPE), np.float32))
    with pytest.raises(DatasetError, match=message):
        map_hdf5(tmp_path / "train.h5", "joint", ["a", "b", "c"], SHAPE, "float32")


def test_a_user_block_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "train.h5", "w", userblock_size=512) as file:
        file["id"] = ["a"]
        file.create_dataset("joint", data=np.ones((1, *SHAPE), np.float32), chunks=(1, *SHAPE))
    with pytest.raises(DatasetError, match="uncompressed chunks of whole clips"):
        map_hdf5(tmp_path / "train.h5", "joint", ["a"], SHAPE, "float32")
