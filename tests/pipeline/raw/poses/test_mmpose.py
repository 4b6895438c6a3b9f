"""MMPose's predictions, written here by hand as `MMPoseInferencer` saves them."""

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.skeleton import layout

COCO = layout("coco-17").joints


def instance(offset: float, joints: int = 17, axes: int = 2, **more) -> dict:
    points = [[offset + v, 2.0 * v, 3.0 * v][:axes] for v in range(joints)]
    return {
        "keypoints": points,
        "keypoint_scores": [v / 100 for v in range(joints)],
        "bbox": [[0, 0, 9, 9]],
        **more,
    }


def video(*frames: list, first: int = 0, **meta) -> dict:
    listed = [{"frame_id": first + t, "instances": frame} for t, frame in enumerate(frames)]
    return {"meta_info": {"dataset_name": "coco", **meta}, "instance_info": listed}


@pytest.mark.parametrize("first", [0, 1])
def test_a_video(read_poses, first: int) -> None:
    recording = read_poses("mmpose", video([instance(10)], [], [instance(12)], first=first), "coco-17")
    assert recording.counts.tolist() == [1, 0, 1]
    v = np.arange(17)
    np.testing.assert_array_equal(recording.xyz[1], np.stack([12 + v, 2 * v, 0 * v], axis=1))
    np.testing.assert_allclose(recording.scores, [v / 100, v / 100])


def test_a_picture(read_poses) -> None:
    recording = read_poses("mmpose-frames", [instance(10), instance(800)], "coco-17")
    assert recording.counts.tolist() == [2]
    assert recording.xyz[:, 0, 0].tolist() == [10, 800]


def test_people_keep_their_track_id(read_poses) -> None:
    frames = [instance(10, track_id=4), instance(800, track_id=9)], [instance(800, track_id=4)]
    recording = read_poses("mmpose", video(*frames), "coco-17")
    assert recording.ids.tolist() == [4, 9, 4]


def test_the_demos_mark_of_the_untracked_is_no_id(read_poses) -> None:
    frames = [[instance(x, track_id=10000.0) for x in xs] for xs in ([10, 800], [801, 11])]
    recording = read_poses("mmpose", video(*frames), "coco-17")
    assert recording.ids.tolist() == [0, 1, 0, 1]
    assert recording.xyz[:, 0, 0].tolist() == [10, 800, 11, 801]


def test_lifted_poses_are_turned_back(read_poses) -> None:
    """The lifting demos write (-x, z, -y) of the camera's x right, y down, z away; the reader returns y down."""
    camera = np.random.default_rng(3).normal(size=(17, 3))
    written = np.stack([-camera[:, 0], camera[:, 2], -camera[:, 1]], axis=1)
    one = {"keypoints": written.tolist(), "keypoint_scores": [1.0] * 17}
    recording = read_poses("mmpose", video([one]), "h36m-17", channels=("x", "y", "z", "score"))
    np.testing.assert_allclose(recording.xyz[0], camera)


def test_names_of_joints_are_checked(read_poses) -> None:
    names = {str(v): name.replace(" ", "_") for v, name in enumerate(COCO)}
    assert read_poses("mmpose", video([instance(1)], keypoint_id2name=names), "coco-17").frames == 1
    swapped = names | {"5": names["6"], "6": names["5"]}
    with pytest.raises(
        RawError, match=r"^a\.json: meta_info: joint 6 is 'right_shoulder' in the file, 'left shoulder'"
    ):
        read_poses("mmpose", video([instance(1)], keypoint_id2name=swapped), "coco-17")


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        ("mmpose", [instance(1)], r"a list, as MMPose writes for one picture: the reader mmpose-frames"),
        ("mmpose-frames", video([]), r"the frames of a whole video: the reader mmpose reads it"),
        ("mmpose", {}, r"the key 'instance_info' is missing"),
        ("mmpose", video([instance(1, 16)]), r"frame 0, person 1: 17 joints are expected, found 16"),
        ("mmpose", video([instance(1, axes=3)]), r"frame 0, person 1, joint 1 \(nose\): 2 numbers are expected"),
        ("mmpose", video([instance(1) | {"keypoint_scores": [1]}]), r"frame 0, person 1, scores: 17 numbers"),
        ("mmpose", {"instance_info": [{"frame_id": 1, "instances": []}] * 2}, r"frame 1 is there twice"),
        ("mmpose-frames", [instance(1), 3], r"person 2: an object with 'keypoints' is expected, found 3"),
    ],
)  # fmt: skip
def test_damage_is_named(read_poses, reader: str, content, message: str) -> None:
    with pytest.raises(RawError, match=rf"^a\.json: {message}"):
        read_poses(reader, content, "coco-17")
