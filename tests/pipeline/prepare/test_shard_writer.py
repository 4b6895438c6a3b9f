"""Shards as other programs see them: tar, tarfile, numpy, webdataset."""

import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.dataset.tar_shard import TAIL, Geometry, index_text, new_block
from skelpipe.errors import DatasetError


def make(geometry: Geometry, ids: list[str], labels: list[int]) -> tuple[bytes, np.ndarray]:
    clips = np.random.default_rng(len(ids)).normal(size=(len(ids), *geometry.shape)).astype(geometry.dtype)
    block = new_block(geometry, ids, labels)
    geometry.arrays(block)[:] = clips
    return block.tobytes() + TAIL, clips


SHAPES = st.tuples(st.just(3), st.integers(1, 70), st.sampled_from([17, 20, 25]), st.integers(1, 2))


@given(
    shape=SHAPES,
    dtype=st.sampled_from(["float32", "float16"]),
    labels=st.lists(st.integers(0, 1200), min_size=1, max_size=4),
)
def test_python_reads_it_as_a_tar_of_npy_files(shape, dtype, labels) -> None:
    geometry = Geometry("bone", shape, dtype)
    ids = [f"S001C001P001R001A{i + 1:03}" for i in range(len(labels))]
    content, clips = make(geometry, ids, labels)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == [f"{i}.{s}" for i in ids for s in ("cls", "bone.npy")]
        for row, clip in enumerate(clips):
            cls, npy = (tar.extractfile(member).read() for member in members[2 * row : 2 * row + 2])
            assert int(cls) == labels[row]
            assert np.array_equal(np.load(io.BytesIO(npy), allow_pickle=False), clip)
            assert members[2 * row + 1].offset_data == row * geometry.stride + 3 * 512
        assert all(m.mtime == 0 and m.uid == 0 and m.isreg() for m in members)
    # An array of npy's own, byte for byte.
    saved = io.BytesIO()
    np.save(saved, clips[0])
    assert npy is not None
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.extractfile(tar.getmembers()[1]).read() == saved.getvalue()


def test_gnu_tar_and_webdataset_agree_with_the_stride(tmp_path: Path) -> None:
    geometry = Geometry("joint", (3, 16, 25, 2))
    ids = [f"S001C00{c}P001R001A0{a}0" for c in (1, 2) for a in (1, 2, 3)]
    content, clips = make(geometry, ids, [0, 1, 2, 3, 44, 119])
    path = tmp_path / "000000.tar"
    path.write_bytes(content)
    listing = subprocess.run(["tar", "tf", str(path)], capture_output=True, text=True, check=True)
    assert listing.stdout.split() == [f"{i}.{s}" for i in ids for s in ("cls", "joint.npy")]
    assert not listing.stderr
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == ids
    assert [sample["cls"] for sample in samples] == [0, 1, 2, 3, 44, 119]
    for sample, clip in zip(samples, clips, strict=True):
        assert np.array_equal(sample["joint.npy"], clip)
    rows = np.frombuffer(content[: -len(TAIL)], np.uint8).reshape(len(ids), geometry.stride)
    assert np.array_equal(geometry.arrays(rows), clips)


def test_index_points_at_the_members() -> None:
    """Each component of DALI's index (v1.2) is extension, offset, size, name of a member's data."""
    geometry = Geometry("motion", (3, 5, 25, 1))
    ids, labels = ["A001", "A002", "A003"], [7, 11, 119]
    content, _ = make(geometry, ids, labels)
    lines = index_text(geometry, ids, labels).splitlines()
    assert lines[0] == "v1.2 3"
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for line, cls, npy in zip(lines[1:], tar.getmembers()[::2], tar.getmembers()[1::2], strict=True):
            wanted = [
                word
                for member in (cls, npy)
                for word in (member.name.partition(".")[2], member.offset_data, member.size, member.name)
            ]
            assert line.split(" ") == [str(word) for word in wanted]


def test_names_longer_than_a_header_are_refused() -> None:
    with pytest.raises(DatasetError, match="longer than the 100 bytes"):
        new_block(Geometry("joint", (3, 2, 25, 1)), ["x" * 95], [0])
