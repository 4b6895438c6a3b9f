"""Untrimmed videos as other programs see them (tarfile, numpy, webdataset), and labels one frame at a time."""

import hashlib
import io
import tarfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import DatasetError, SkelpipeError
from skelpipe.prepare.untrimmed_writer import as_array, frame_labels, write_videos
from skelpipe.raw.recording import Recording

Row = namedtuple("Row", "action start end")
Video = tuple[str, np.ndarray, np.ndarray]


def make(frames: list[int], joints: int = 25, bodies: int = 2) -> list[Video]:
    rng = np.random.default_rng(len(frames))
    return [
        (
            f"{number:04}-L",
            rng.normal(size=(3, length, joints, bodies)).astype(np.float32),
            rng.integers(0, 52, length).astype(np.int16),
        )
        for number, length in enumerate(frames)
    ]


@given(st.lists(st.integers(1, 300), max_size=4), st.sampled_from([17, 20, 25]), st.integers(1, 2))
def test_python_reads_it_as_a_tar_of_npy_files(tmp_path: Path, lengths, joints, bodies) -> None:
    videos = make(lengths, joints, bodies)
    path = tmp_path / "untrimmed" / "train" / "000000.tar"
    written = write_videos(path, iter(videos))
    content = path.read_bytes()
    assert (written.bytes, written.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert len(content) % 512 == 0
    assert content.endswith(bytes(1024))
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == [f"{v[0]}.{s}.npy" for v in videos for s in ("joint", "label")]
        assert all(m.mtime == 0 and m.uid == 0 and m.isreg() for m in members)
        arrays = [np.load(io.BytesIO(tar.extractfile(m).read()), allow_pickle=False) for m in members]
    for number, (id_, joint, label) in enumerate(videos):
        assert np.array_equal(arrays[2 * number], joint)
        assert arrays[2 * number].dtype == np.float32
        assert np.array_equal(arrays[2 * number + 1], label)
        assert arrays[2 * number + 1].dtype == np.int16
        entry = written.videos[number]
        assert (entry.id, entry.frames) == (id_, len(label))
        # The offsets are where the raw numbers are, for any program.
        found = np.fromfile(path, "<f4", joint.size, offset=entry.joint_offset)
        assert np.array_equal(found, joint.ravel())
        assert np.array_equal(np.fromfile(path, "<i2", len(label), offset=entry.label_offset), label)
        assert entry.joint_offset % 64 == 0


def test_webdataset_reads_it(tmp_path: Path) -> None:
    videos = make([40, 7, 133])
    write_videos(tmp_path / "000000.tar", videos)
    samples = list(webdataset.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == ["0000-L", "0001-L", "0002-L"]
    for sample, (_, joint, label) in zip(samples, videos, strict=True):
        assert np.array_equal(sample["joint.npy"], joint)
        assert np.array_equal(sample["label.npy"], label)


def test_same_videos_same_bytes_whatever_their_memory_looks_like(tmp_path: Path) -> None:
    videos = make([40, 7])
    one = write_videos(tmp_path / "a.tar", videos)
    strided = [(i, np.asfortranarray(x.astype(">f8")), y.astype(np.uint8)) for i, x, y in videos]
    two = write_videos(tmp_path / "b.tar", strided)
    assert one == two
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_bad_videos_leave_nothing_behind(tmp_path: Path) -> None:
    (id_, joint, label), other = make([5, 6])
    path = tmp_path / "000000.tar"
    bad = {
        "do not fit": [(id_, joint, label[:4])],
        r"joints \[3, 0, 25, 2\]": [(id_, joint[:, :0], label[:0])],
        "labels go from 0": [(id_, joint, label - 99)],
        "longer than the 100 bytes": [other, ("x" * 95, joint, label)],
    }
    for message, videos in bad.items():
        with pytest.raises(DatasetError, match=message):
            write_videos(path, videos)
        assert list(tmp_path.iterdir()) == []
    path.mkdir()
    with pytest.raises(SkelpipeError, match=r"000000\.tar: cannot be written"):
        write_videos(path, [other])


ROWS = st.builds(Row, st.integers(1, 51), st.integers(-5, 60), st.integers(-5, 60))


@given(st.lists(ROWS, max_size=8), st.integers(0, 50))
def test_frame_labels_frame_by_frame(rows: list[Row], frames: int) -> None:
    expected = [0] * frames
    for frame in range(frames):
        for row in rows:
            if row.start <= frame + 1 <= row.end:
                expected[frame] = row.action
    assert frame_labels(rows, frames).tolist() == expected


def test_frame_labels_refuses_what_is_no_class() -> None:
    for action in (0, -1, 40000):
        with pytest.raises(DatasetError, match=f"class {action} of a label row"):
            frame_labels([Row(action, 1, 3)], 5)


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 3))
def test_as_array_body_by_body(counts: list[int], bodies: int) -> None:
    listed = sum(counts)
    xyz = np.random.default_rng(listed).normal(size=(listed, 5, 3))
    ids = np.arange(listed, dtype=np.int64)
    clip = as_array(Recording(np.array(counts, np.int32), ids, xyz), bodies)
    assert clip.shape == (3, len(counts), 5, bodies)
    assert clip.dtype == np.float32
    expected = np.zeros(clip.shape, np.float32)
    place = 0
    for frame, count in enumerate(counts):
        for slot in range(count):
            if slot < bodies:
                expected[:, frame, :, slot] = xyz[place].T
            place += 1
    assert np.array_equal(clip, expected)
    scores = np.random.default_rng(1).random((listed, 5))
    scored = as_array(Recording(np.array(counts, np.int32), ids, xyz, scores), bodies, 4)
    as_axes = as_array(Recording(np.array(counts, np.int32), ids, np.repeat(scores[..., None], 3, 2)), bodies)
    assert np.array_equal(scored, np.concatenate([expected, as_axes[:1]]))


def test_as_array_with_scores() -> None:
    rng = np.random.default_rng(4)
    xyz, scores = rng.normal(size=(5, 25, 3)), rng.random((5, 25))
    recording = Recording(np.array([1, 2, 2], np.int32), np.array([0, 0, 1, 0, 1]), xyz, scores)
    clip = as_array(recording, 2, 4)
    assert clip.shape == (4, 3, 25, 2)
    np.testing.assert_array_equal(clip[:3], as_array(recording, 2))
    np.testing.assert_array_equal(clip[3, :, :, 0], scores[[0, 1, 3]].astype(np.float32))
    np.testing.assert_array_equal(clip[3, 1:, :, 1], scores[[2, 4]].astype(np.float32))
    assert not clip[3, 0, :, 1].any()
