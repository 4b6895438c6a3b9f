"""Mapped tars of untrimmed videos: several tars, tars that are cut off, and tars of other entries."""

import pickle
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from skelpipe.dataset.untrimmed import VideoEntry, Videos
from skelpipe.errors import DatasetError
from skelpipe.prepare.untrimmed_writer import write_videos

Video = tuple[str, np.ndarray, np.ndarray]


def make(frames: list[int]) -> list[Video]:
    rng = np.random.default_rng(len(frames))
    return [
        (
            f"{number:04}-L",
            rng.normal(size=(3, length, 25, 2)).astype(np.float32),
            rng.integers(0, 52, length).astype(np.int16),
        )
        for number, length in enumerate(frames)
    ]


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


def test_videos_can_be_pickled(tmp_path: Path) -> None:
    path = tmp_path / "000000.tar"
    made = make([40, 7])
    videos = pickle.loads(pickle.dumps(Videos([path], [write_videos(path, made).videos], 25, 2)))
    assert videos.ids == ["0000-L", "0001-L"]
    for number, (_, joint, label) in enumerate(made):
        assert np.array_equal(videos.joint(number), joint)
        assert np.array_equal(videos.label(number), label)
