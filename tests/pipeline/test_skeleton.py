"""Layouts: the facts of docs/conventions.md, the makers' lists of joints and bones, errors of wrong files."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout, layout, named_layout, parse_layout

CONVENTIONS = Path(__file__).parents[2] / "docs" / "conventions.md"
SWAP = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22]


def test_kinect_v2_facts() -> None:
    kinect = layout("kinect-v2-25")
    assert len(kinect) == 25
    assert kinect.centre == 20
    assert (kinect.left_shoulder, kinect.right_shoulder) == (4, 8)
    assert list(kinect.mirror) == SWAP
    assert [kinect.mirror[v] for v in kinect.mirror] == list(range(25))
    assert len(kinect.edges) == 24
    # parts and levels of docs/conventions.md, counted from 1
    ids = [sorted(v + 1 for v in part) for part in kinect.parts.values()]
    assert ids == [
        [1, 2, 3, 4, 21],
        [5, 6, 7, 8, 22, 23],
        [9, 10, 11, 12, 24, 25],
        [13, 14, 15, 16],
        [17, 18, 19, 20],
    ]
    part = [sorted(v + 1 for v in group) for group in kinect.levels["part"].values()]
    assert part == [
        *([1, 2, 21], [3, 4], [5, 6, 7], [8, 22, 23], [9, 10, 11]),
        *([12, 24, 25], [13, 14], [15, 16], [17, 18], [19, 20]),
    ]
    body = [sorted(v + 1 for v in group) for group in kinect.levels["body"].values()]
    assert body == [
        [5, 6, 7, 8, 22, 23],
        [9, 10, 11, 12, 24, 25],
        [13, 14, 15, 16],
        [17, 18, 19, 20],
        [1, 2, 3, 4, 21],
    ]


# Joints and bones as the makers' own files have them, by index from 0.
# openpose: POSE_BODY_25_BODY_PARTS and POSE_BODY_25_PAIRS of src/openpose/pose/poseParameters.cpp; those of COCO.
OPENPOSE_25 = (
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist MidHip RHip RKnee RAnkle LHip LKnee LAnkle "
    "REye LEye REar LEar LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel"
)
OPENPOSE_25_PAIRS = (
    *(1, 8, 1, 2, 1, 5, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 10, 11, 8, 12, 12, 13, 13, 14, 1, 0, 0, 15, 15, 17),
    *(0, 16, 16, 18, 14, 19, 19, 20, 14, 21, 11, 22, 22, 23, 11, 24),
)
OPENPOSE_18 = (
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist RHip RKnee RAnkle LHip LKnee LAnkle REye LEye "
    "REar LEar"
)
OPENPOSE_18_PAIRS = (
    *(1, 2, 1, 5, 2, 3, 3, 4, 5, 6, 6, 7, 1, 8, 8, 9, 9, 10, 1, 11, 11, 12, 12, 13, 1, 0, 0, 14, 14, 16, 0, 15),
    *(15, 17),
)
# mediapipe: mp.solutions.pose.PoseLandmark and POSE_CONNECTIONS.
MEDIAPIPE = (
    "NOSE LEFT_EYE_INNER LEFT_EYE LEFT_EYE_OUTER RIGHT_EYE_INNER RIGHT_EYE RIGHT_EYE_OUTER LEFT_EAR RIGHT_EAR "
    "MOUTH_LEFT MOUTH_RIGHT LEFT_SHOULDER RIGHT_SHOULDER LEFT_ELBOW RIGHT_ELBOW LEFT_WRIST RIGHT_WRIST "
    "LEFT_PINKY RIGHT_PINKY LEFT_INDEX RIGHT_INDEX LEFT_THUMB RIGHT_THUMB LEFT_HIP RIGHT_HIP LEFT_KNEE "
    "RIGHT_KNEE LEFT_ANKLE RIGHT_ANKLE LEFT_HEEL RIGHT_HEEL LEFT_FOOT_INDEX RIGHT_FOOT_INDEX"
)
MEDIAPIPE_PAIRS = (
    *(
        0,
        1,
        1,
        2,
        2,
        3,
        3,
        7,
        0,
        4,
        4,
        5,
        5,
        6,
        6,
        8,
        9,
        10,
        11,
        12,
        11,
        13,
        13,
        15,
        15,
        17,
        15,
        19,
        15,
        21,
        17,
        19,
    ),
    *(
        12,
        14,
        14,
        16,
        16,
        18,
        16,
        20,
        16,
        22,
        18,
        20,
        11,
        23,
        12,
        24,
        23,
        24,
        23,
        25,
        24,
        26,
        25,
        27,
        26,
        28,
        27,
        29,
    ),
    *(28, 30, 29, 31, 30, 32, 27, 31, 28, 32),
)
# VideoPose3D: common/h36m_dataset.py after remove_joints, with parents, joints_left and joints_right.
H36M = (
    "Hip RHip RKnee RFoot LHip LKnee LFoot Spine Thorax Neck Head LShoulder LElbow LWrist RShoulder RElbow RWrist"
)
H36M_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
H36M_LEFT, H36M_RIGHT = [4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]
# Microsoft: the page "Azure Kinect body tracking joints".
AZURE = (
    "PELVIS SPINE_NAVEL SPINE_CHEST NECK CLAVICLE_LEFT SHOULDER_LEFT ELBOW_LEFT WRIST_LEFT HAND_LEFT "
    "HANDTIP_LEFT THUMB_LEFT CLAVICLE_RIGHT SHOULDER_RIGHT ELBOW_RIGHT WRIST_RIGHT HAND_RIGHT HANDTIP_RIGHT "
    "THUMB_RIGHT HIP_LEFT KNEE_LEFT ANKLE_LEFT FOOT_LEFT HIP_RIGHT KNEE_RIGHT ANKLE_RIGHT FOOT_RIGHT HEAD "
    "NOSE EYE_LEFT EAR_LEFT EYE_RIGHT EAR_RIGHT"
)
AZURE_PARENTS = (
    *(
        -1,
        0,
        1,
        2,
        2,
        4,
        5,
        6,
        7,
        8,
        7,
        2,
        11,
        12,
        13,
        14,
        15,
        14,
        0,
        18,
        19,
        20,
        0,
        22,
        23,
        24,
        3,
        26,
        26,
        26,
        26,
    ),
    26,
)
# smplx: SMPL_JOINT_NAMES, and kintree_table of the model.
SMPL = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot "
    "right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hand right_hand"
)
SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
# Kinect for Windows SDK: NUI_SKELETON_POSITION_INDEX; bones (child, parent) from 1 as in CTR-GCN's graph/ucla.py.
KINECT_V1 = (
    "HIP_CENTER SPINE SHOULDER_CENTER HEAD SHOULDER_LEFT ELBOW_LEFT WRIST_LEFT HAND_LEFT SHOULDER_RIGHT "
    "ELBOW_RIGHT WRIST_RIGHT HAND_RIGHT HIP_LEFT KNEE_LEFT ANKLE_LEFT FOOT_LEFT HIP_RIGHT KNEE_RIGHT "
    "ANKLE_RIGHT FOOT_RIGHT"
)
KINECT_V1_PAIRS = (
    *(1, 2, 2, 3, 4, 3, 5, 3, 6, 5, 7, 6, 8, 7, 9, 3, 10, 9, 11, 10, 12, 11, 13, 1, 14, 13, 15, 14, 16, 15, 17, 1),
    *(18, 17, 19, 18, 20, 19),
)


def bones(pairs, first: int = 0) -> set[frozenset[int]]:
    """The bones, without direction, of a flat list of pairs that counts joints from `first`."""
    return {frozenset((a - first, b - first)) for a, b in zip(pairs[::2], pairs[1::2], strict=True)}


def tree(parents) -> set[frozenset[int]]:
    return {frozenset(bone) for bone in enumerate(parents) if bone[1] >= 0}


def ours(name: str) -> set[frozenset[int]]:
    return set(map(frozenset, layout(name).edges))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openpose-25", bones(OPENPOSE_25_PAIRS)),
        ("openpose-18", bones(OPENPOSE_18_PAIRS)),
        ("h36m-17", tree(H36M_PARENTS)),
        ("azure-kinect-32", tree(AZURE_PARENTS)),
        ("smpl-24", tree(SMPL_PARENTS)),
        ("kinect-v1-20", bones(KINECT_V1_PAIRS, first=1)),
    ],
)
def test_bones_are_those_of_the_maker(name, expected) -> None:
    assert ours(name) == expected


def test_bones_of_mediapipe_are_its_connections_made_a_tree() -> None:
    """Mouth and shoulders are hung on the nose instead of being connected across the body."""
    hung = {frozenset((0, joint)) for joint in (9, 10, 11, 12)}
    assert ours("mediapipe-33") - hung < bones(MEDIAPIPE_PAIRS)
    left_out = bones(MEDIAPIPE_PAIRS) - ours("mediapipe-33")
    assert left_out == bones((9, 10, 11, 12, 17, 19, 18, 20, 23, 24, 29, 31, 30, 32))


def plain(name: str) -> str:
    """A maker's name of a joint in our words: LShoulder, SHOULDER_LEFT and left_shoulder are the left shoulder."""
    name = re.sub(r"^L(?=[A-Z][a-z])", "left ", re.sub(r"^R(?=[A-Z][a-z])", "right ", name))
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().replace("_", " ").replace("handtip", "hand tip")
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", name).replace("center", "centre").split()
    side = [word for word in words if word in ("left", "right")]
    return " ".join([*side, *(word for word in words if word not in side)])


@pytest.mark.parametrize(
    ("name", "makers", "others"),
    [
        ("openpose-25", OPENPOSE_25, {"mid hip": "middle hip"}),
        ("openpose-18", OPENPOSE_18, {}),
        ("mediapipe-33", MEDIAPIPE, {}),
        ("h36m-17", H36M, {"hip": "root", "neck": "neck base"}),
        ("azure-kinect-32", AZURE, {}),
        ("smpl-24", SMPL, {}),
        ("kinect-v1-20", KINECT_V1, {}),
    ],
)
def test_joints_are_in_the_makers_order(name, makers, others) -> None:
    assert [others.get(plain(joint), plain(joint)) for joint in makers.split()] == list(layout(name).joints)


def test_sides_of_human36m() -> None:
    body = layout("h36m-17")
    for side, expected in (("left", H36M_LEFT), ("right", H36M_RIGHT)):
        assert [v for v, joint in enumerate(body.joints) if joint.startswith(side)] == expected


@pytest.mark.parametrize("name", manifests.names("layouts"))
def test_parts_and_levels_have_the_order_of_kinect_v2(name: str) -> None:
    """Trunk, arms, legs; per level spine and head, then arm and hand, leg and foot, each left before right."""
    body = layout(name)
    trunk, *limbs = body.parts
    assert limbs == ["left arm", "right arm", "left leg", "right leg"]
    inner = list(body.levels["part"].values())
    assert len(inner) == 10
    assert sorted(inner[0] + inner[1]) == sorted(body.parts[trunk])
    for limb, groups in zip(limbs, (inner[2:4], inner[4:6], inner[6:8], inner[8:]), strict=True):
        assert sorted(groups[0] + groups[1]) == sorted(body.parts[limb])
    coarse = [sorted(group) for group in body.levels["body"].values()]
    assert coarse == [sorted(body.parts[limb]) for limb in (*limbs, trunk)]
    assert body.joints[body.left_shoulder] == "left shoulder"
    assert body.mirror[body.left_shoulder] == body.right_shoulder
    assert body.source.startswith("https://")


def test_an_older_card_names_the_layout_that_it_holds() -> None:
    """`kinect-v1-20` was the order of MSR Action3D's files, and is the order of the SDK now."""
    for name in manifests.names("layouts"):
        assert Layout.from_plain(layout(name).to_plain()) == layout(name)
    old = {**layout("msr-action3d-20").to_plain(), "name": "kinect-v1-20"}
    assert Layout.from_plain(old) == layout("msr-action3d-20")


@pytest.mark.parametrize("text", ["", "[a, b]", "a text", "3"])
def test_a_layouts_file_without_keys_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.yaml: a mapping of keys is expected"):
        named_layout(str(tmp_path / "mine.yaml"))


def test_a_layouts_file_may_leave_out_its_name(tmp_path: Path) -> None:
    text = "joints: [a, b]\ncentre: a\nshoulders: {left: a, right: b}\nbones: {b: a}\nparts: {all: [a, b]}\n"
    (tmp_path / "mine.yaml").write_text(text)
    assert named_layout(str(tmp_path / "mine.yaml")).name == "mine"
    (tmp_path / "mine.yaml").write_text(f"{text}name: yours\n")
    assert named_layout(str(tmp_path / "mine.yaml")).name == "yours"
    assert named_layout("kinect-v2-25") == layout("kinect-v2-25")


def test_the_documentation_lists_the_joints_of_every_layout() -> None:
    table = re.findall(
        r"^\| `([a-z0-9-]+)` \| [^|]* \| ([^|]*) \| (0 [^|]*) \|$", CONVENTIONS.read_text("utf-8"), re.M
    )
    assert sorted(name for name, _, _ in table) == manifests.names("layouts")
    for name, centre, joints in table:
        body = layout(name)
        assert centre == body.joints[body.centre]
        assert joints.split(", ") == [f"{v} {joint}" for v, joint in enumerate(body.joints)]


BREAKS = {
    "a bone to an unknown joint": (
        lambda c: c["bones"].update({"head": "hat"}),
        "bones names the unknown joint 'hat'",
    ),
    "a ring of bones": (lambda c: c["bones"].update({"neck": "head"}), "do not lead to the centre"),
    "a joint without a bone": (lambda c: c["bones"].pop("left foot"), "'left foot' do not lead to the centre"),
    "a centre with a parent": (
        lambda c: c["bones"].update({"spine shoulder": "neck"}),
        "centre 'spine shoulder' must have no parent",
    ),
    "a joint in two mirror pairs": (lambda c: c["mirror"].append(["left hip", "head"]), "mirror names 'left hip'"),
    "a joint in no part": (
        lambda c: c["parts"]["trunk"].remove("head"),
        "parts must name every joint exactly once",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_wrong_layouts_are_refused(case: str) -> None:
    content = copy.deepcopy(yaml.safe_load(manifests.read_text("layouts", "kinect-v2-25")))
    change, message = BREAKS[case]
    change(content)
    with pytest.raises(UsageError, match=message):
        parse_layout(content)


def test_an_unknown_layout_is_refused_with_a_list() -> None:
    with pytest.raises(UsageError, match="kinect-v2-25"):
        layout("kinect-v9")
