"""UTKinect's text files, written here by hand."""

import numpy as np
import pytest

from skelpipe.errors import RawError

XYZ = np.random.default_rng(0).normal(size=(5, 20, 3)).round(5)


def text(numbers: list[int], poses: np.ndarray = XYZ) -> str:
    rows = [[number, *pose.reshape(-1)] for number, pose in zip(numbers, poses, strict=True)]
    return "\n".join("  ".join(f"{value:.9g}" for value in row) for row in rows) + "\n"


def test_frames_have_the_numbers_of_the_pictures(read_poses) -> None:
    recording = read_poses("utkinect-text", text([3, 4, 6, 7, 9]), "kinect-v1-20")
    assert recording.counts.tolist() == [0, 0, 1, 1, 0, 1, 1, 0, 1]  # pictures 1 to 9
    np.testing.assert_allclose(recording.xyz, XYZ)


def test_equal_lines_count_once_and_others_are_people(read_poses) -> None:
    poses = np.stack([XYZ[0], XYZ[0], XYZ[0] + 0.01, XYZ[0] + 9, XYZ[0] + 9.01]).round(5)
    recording = read_poses("utkinect-text", text([1, 1, 2, 2, 3], poses), "kinect-v1-20")
    assert recording.counts.tolist() == [1, 2, 2]
    np.testing.assert_allclose(recording.xyz[[0, 1, 2, 4]], poses[1:])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text([1, 2, 3, 4, 3]), r":5: 3 is no frame's number, or a lower one than before"),
        (text([1]*5)[:-20], r""),
        ("1 2 3\n", r":1: 61 numbers \(the frame's and x y z of 20 joints\) are expected, found 3"),
        (text([1, 2, 3, 4, 5]).replace("1", "1.5", 1), r":1: 1\.5 is no frame's number"),
    ],
)  # fmt: skip
def test_damage_is_named(read_poses, content: str, message: str) -> None:
    with pytest.raises(RawError, match=rf"^a\.json{message}"):
        read_poses("utkinect-text", content, "kinect-v1-20")
