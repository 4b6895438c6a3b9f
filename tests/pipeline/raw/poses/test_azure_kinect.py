"""The JSON of Azure Kinect's offline processor, written here by hand as its C++ source has it."""

import numpy as np
import pytest

from skelpipe.errors import RawError

# K4ABT_JOINT_* in the order of Microsoft's header.
NAMES = [
    "PELVIS", "SPINE_NAVEL", "SPINE_CHEST", "NECK", "CLAVICLE_LEFT", "SHOULDER_LEFT", "ELBOW_LEFT",
    "WRIST_LEFT", "HAND_LEFT", "HANDTIP_LEFT", "THUMB_LEFT", "CLAVICLE_RIGHT", "SHOULDER_RIGHT", "ELBOW_RIGHT",
    "WRIST_RIGHT", "HAND_RIGHT", "HANDTIP_RIGHT", "THUMB_RIGHT", "HIP_LEFT", "KNEE_LEFT", "ANKLE_LEFT",
    "FOOT_LEFT", "HIP_RIGHT", "KNEE_RIGHT", "ANKLE_RIGHT", "FOOT_RIGHT", "HEAD", "NOSE", "EYE_LEFT", "EAR_LEFT",
    "EYE_RIGHT", "EAR_RIGHT",
]  # fmt: skip


def body(identity: int, x: float) -> dict:
    positions = [[x + 10 * v, 20.0 * v, 2000.0 + v] for v in range(32)]
    return {"body_id": identity, "joint_positions": positions, "joint_orientations": [[1, 0, 0, 0]] * 32}


def frame(number: int, *bodies: dict) -> dict:
    return {
        "frame_id": number,
        "timestamp_usec": 33000 * number,
        "num_bodies": len(bodies),
        "bodies": list(bodies),
    }


def recorded(*frames: dict, names=NAMES) -> dict:
    return {
        "start_time": "",
        "frames": list(frames),
        "joint_names": names,
        "bone_list": [["PELVIS", "SPINE_NAVEL"]],
    }


def test_millimetres_become_metres_and_ids_are_kept(read_poses) -> None:
    content = recorded(frame(0, body(3, 0)), frame(1), frame(2, body(8, 900), body(3, 0)))
    recording = read_poses("azure-kinect", content, "azure-kinect-32")
    assert recording.counts.tolist() == [1, 0, 2]
    assert recording.ids.tolist() == [3, 3, 8]
    v = np.arange(32)
    np.testing.assert_allclose(recording.xyz[0], np.stack([0.01 * v, 0.02 * v, 2 + v / 1000], axis=1))
    assert recording.xyz[2, 0, 0] == 0.9
    assert recording.scores is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"an object with 'frames' is expected"),
        (recorded({"frame_id": 0, "bodies": []} | {"num_bodies": 2}), r"frame 0: says 2 bodies, holds 0"),
        (recorded(frame(4), frame(4)), r"frame 4 is there twice"),
        (recorded(frame(4, {"body_id": 1})), r"frame 4, body 1: the key 'joint_positions' is missing"),
        (
            recorded(frame(4, body(1, 0) | {"joint_positions": [[1, 2, 3]] * 31})),
            r"frame 4, body 1: 32 joints are expected, found 31",
        ),
        (recorded(frame(4, body(1, 0), body(1, 9))), r"frame 4: two people have the id 1"),
        (recorded(names=NAMES[:31]), r"joint_names: 32 joints are expected, found 31 names"),
        (
            recorded(names=[*NAMES[:5], NAMES[12], *NAMES[6:12], NAMES[5], *NAMES[13:]]),
            r"joint_names: joint 6 is 'SHOULDER_RIGHT' in the file, 'left shoulder' in the layout azure-kinect-32",
        ),
    ],
)
def test_damage_is_named(read_poses, content, message: str) -> None:
    with pytest.raises(RawError, match=rf"^a\.json: {message}"):
        read_poses("azure-kinect", content, "azure-kinect-32")
