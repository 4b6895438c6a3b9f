"""OpenPose's files of frames, written here by hand as its documentation shows them."""

import numpy as np
import pytest

from skelpipe.errors import RawError

L = {18: "openpose-18", 25: "openpose-25"}


def person(joints: int, offset: float, key: str = "pose_keypoints_2d", axes: int = 2, **more) -> dict:
    """Joint v at (offset + v, 2 v), with a score of v / 100."""
    values = [value for v in range(joints) for value in (*(offset + v, 2.0 * v, 3.0 * v)[:axes], v / 100)]
    return {key: values, **more}


@pytest.mark.parametrize("joints", [18, 25])
@pytest.mark.parametrize("key", ["pose_keypoints_2d", "pose_keypoints"])
def test_a_frame(read_poses, joints: int, key: str) -> None:
    people = [person(joints, 100, key, person_id=[-1], face_keypoints_2d=[]), person(joints, 900, key)]
    recording = read_poses("openpose", {"version": 1.3, "people": people}, L[joints])
    assert recording.counts.tolist() == [2]
    v = np.arange(joints)
    for m, offset in enumerate([100, 900]):
        np.testing.assert_array_equal(recording.xyz[m], np.stack([offset + v, 2 * v, 0 * v], axis=1))
        np.testing.assert_allclose(recording.scores[m], v / 100)


def test_joints_that_were_not_found(read_poses) -> None:
    one = person(25, 100)
    one["pose_keypoints_2d"][9:12] = [0, 0, 0]
    recording = read_poses("openpose", {"people": [one, {"pose_keypoints_2d": [0] * 75}]}, L[25])
    assert recording.counts.tolist() == [1]  # nobody where no joint was found
    assert np.isnan(recording.xyz[0, 3]).all()
    assert np.isnan(recording.xyz).sum() == 3
    assert recording.scores[0, 3] == 0


def test_nobody(read_poses) -> None:
    assert read_poses("openpose", {"version": 1.3, "people": []}, L[25]).counts.tolist() == [0]


def test_3d_positions_are_read_where_z_is_declared(read_poses) -> None:
    both = person(25, 5, "pose_keypoints_3d", 3) | person(25, 100)
    recording = read_poses("openpose", {"people": [both]}, L[25], channels=("x", "y", "z", "score"))
    v = np.arange(25)
    np.testing.assert_array_equal(recording.xyz[0], np.stack([5 + v, 2 * v, 3 * v], axis=1))


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (2, -1)])
def test_fractions_of_the_picture_become_pixels(read_poses, scale: float, shift: float) -> None:
    """`--keypoint_scale` 3 (from 0 to 1) and 4 (from -1 to 1), of a picture of 200 by 100 pixels."""
    pixels = np.random.default_rng(0).uniform([0, 0], [200, 100], (25, 2))
    fractions = pixels / [200, 100] * scale + shift
    values = np.column_stack([fractions, np.ones(25)]).reshape(-1).tolist()
    content = {"people": [{"pose_keypoints_2d": values}]}
    recording = read_poses("openpose", content, L[25], image_size=(200, 100))
    np.testing.assert_allclose(recording.xyz[0, :, :2], pixels)
    with pytest.raises(RawError, match=r"^a\.json: its positions are fractions .* image_size: \[1920, 1080\]"):
        read_poses("openpose", content, L[25])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"an object with 'people' is expected, found \[\]"),
        ({"version": 1.3}, r"the key 'people' is missing"),
        ({"people": {}}, r"people: a list is expected, found \{\}"),
        ({"people": [7]}, r"person 1: an object with 'pose_keypoints_2d' is expected, found 7"),
        ({"people": [{"face_keypoints_2d": []}]}, r"person 1: the key 'pose_keypoints_2d' is missing"),
        ({"people": [person(25, 0), person(18, 0)]}, r"person 2: 75 numbers .* found 54 \(18 joints\)"),
        (
            {"people": [person(25, 0), person(25, 0, "pose_keypoints")]},
            r"different versions, with pose_keypoints and pose_keypoints_2d",
        ),
        ({"people": [person(25, 0, person_id=[3]), person(25, 0, person_id=[3])]}, r"two people have the id 3"),
        (
            {"people": [person(25, 0, person_id=["a"])]},
            r"person 1: person_id: a whole number is expected, found 'a'",
        ),
    ],
)
def test_damage_is_named(read_poses, content, message: str) -> None:
    with pytest.raises(RawError, match=rf"^a\.json: .*{message}"):
        read_poses("openpose", content, L[25])
