"""Untrimmed videos as other programs see them (tarfile, numpy, webdataset), and labels by a frame at a time."""

import hashlib
import io
import tarfile
from collections import namedtuple
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.dataset.untrimmed import VideoEntry, Videos, as_array, frame_labels, write_videos
from skelpipe.errors import DatasetError, SkelpipeError
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


def test_videos_over_several_tars(tmp_path: Path) -> None:
    parts = [make([40, 7, 90]), [], [(f"B{i}", x, y) for i, x, y in make([12])]]
    paths = [tmp_path / f"{number}.tar" for number in range(3)]
    entries = [write_videos(path, part).videos for path, part in zip(paths, parts, strict=True)]
    videos = Videos(paths, entries, 25, 2)
    assert len(videos) == 4
    assert videos.ids == ["0000-L", "0001-L", "0002-L", "B0000-L"]
    assert videos.frames.tolist() == [40, 7, 90, 12]
    for number, (_, joint, label) in enumerate(chain(*parts)):
        assert np.array_equal(videos.joint(number), joint)
        assert np.array_equal(videos.label(number), label)
        assert videos.joint(number).dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        videos.joint(0)[:] = 0
    with pytest.raises(IndexError):
        videos.joint(4)


@pytest.mark.parametrize("kept", [0, 100, 600, 30000, -1024, -1])
def test_a_cut_off_tar_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "000000.tar"
    entries = write_videos(path, make([40, 7])).videos
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DatasetError, match=r"000000\.tar: .*(cut off|is empty)"):
        Videos([path], [entries], 25, 2)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "000000.tar"
    entries = write_videos(path, make([40, 7, 30])).videos
    Videos([path], [entries], 25, 2)
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        Videos([tmp_path / "none.tar"], [entries], 25, 2)
    with pytest.raises(DatasetError, match=r"no 0000-L.joint.npy of shape \[3, 40, 20, 2\]"):
        Videos([path], [entries], 20, 2)
    with pytest.raises(DatasetError, match="no 0000-R.joint.npy"):
        Videos([path], [[VideoEntry("0000-R", *list(vars(entries[0]).values())[1:]), *entries[1:]]], 25, 2)
    moved = VideoEntry("0000-L", 40, entries[0].joint_offset + 512, entries[0].label_offset)
    with pytest.raises(DatasetError, match=f"at byte {moved.joint_offset} there is no"):
        Videos([path], [[moved, *entries[1:]]], 25, 2)
    # A header damaged in the middle is seen when that video is asked for.
    with open(path, "r+b") as file:
        file.seek(entries[1].label_offset - 3)
        file.write(b"?")
    videos = Videos([path], [entries], 25, 2)
    assert videos.joint(1).shape == (3, 7, 25, 2)
    with pytest.raises(DatasetError, match="no 0001-L.label.npy"):
        videos.label(1)


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
