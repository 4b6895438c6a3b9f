"""Tables of joint positions, wide and long, under the names that people give their columns."""

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.skeleton import layout

COCO = layout("coco-17").joints
XYZ = np.random.default_rng(5).normal(size=(4, 17, 3)).round(4)
SCORES = np.random.default_rng(6).uniform(0, 1, (4, 17)).round(3)


def csv(header: list[str] | None, rows: np.ndarray) -> str:
    lines = [",".join(f"{value:g}" for value in row) for row in rows]
    return "\n".join(([",".join(header)] if header else []) + lines) + "\n"


def words(form: str) -> list[str]:
    camel = ["".join(part.title() for part in name.split()) for name in COCO]
    return {
        "nose_x": [name.replace(" ", "_") + "_{}" for name in COCO],
        "LEFT_HIP.X": [name.upper().replace(" ", "_") + ".{}" for name in COCO],
        "LeftHip x": [name + " {}" for name in camel],
        "x_0": [f"{{}}_{v}" for v in range(17)],
        "x1": [f"{{}}{v + 1}" for v in range(17)],
        "0_x": [f"{v}_{{}}" for v in range(17)],
        "joint_0_x": [f"joint_{v}_{{}}" for v in range(17)],
    }[form]


FORMS = ["nose_x", "LEFT_HIP.X", "LeftHip x", "x_0", "x1", "0_x", "joint_0_x"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("score", ["visibility", "conf", None])
def test_a_row_per_frame_with_names(read_poses, form: str, score: str | None) -> None:
    channels = ["x", "y", "z"] + ([score] if score else [])
    numbers = np.concatenate([XYZ, SCORES[..., None]], axis=2)[..., : len(channels)]
    order = np.random.default_rng(1).permutation(17 * len(channels))  # columns in any order
    header = np.array([word.format(channel) for word in words(form) for channel in channels])[order]
    recording = read_poses("table", csv(header.tolist(), numbers.reshape(4, -1)[:, order]), "coco-17")
    np.testing.assert_allclose(recording.xyz, XYZ)
    if score:
        np.testing.assert_allclose(recording.scores, SCORES)
    else:
        assert recording.scores is None


@pytest.mark.parametrize("each", [2, 3])
@pytest.mark.parametrize("numbered", [False, True])
def test_a_row_per_frame_without_names(read_poses, each: int, numbered: bool) -> None:
    rows = XYZ[..., :each].reshape(4, -1)
    if numbered:
        rows = np.column_stack([np.arange(4), rows])
    recording = read_poses("table", csv(None, rows), "coco-17")
    np.testing.assert_allclose(recording.xyz[..., :each], XYZ[..., :each])
    assert not recording.xyz[..., each:].any()


def test_declared_channels_and_axes(read_poses) -> None:
    """x of all joints, then y, then the score."""
    numbers = np.concatenate([XYZ[..., :2], SCORES[..., None]], axis=2).transpose(0, 2, 1).reshape(4, -1)
    recording = read_poses(
        "table", csv(None, numbers), "coco-17", channels=("x", "y", "score"), axes=("T", "C", "V")
    )
    np.testing.assert_allclose(recording.xyz[..., :2], XYZ[..., :2])
    np.testing.assert_allclose(recording.scores, SCORES)


def test_two_bodies_per_row(read_poses) -> None:
    both = np.stack([XYZ, XYZ + 1], axis=1)
    both[2, 0] = 0
    recording = read_poses("table", csv(None, both.reshape(4, -1)), "coco-17", bodies=2)
    assert recording.counts.tolist() == [2, 2, 2, 2]
    np.testing.assert_allclose(recording.xyz.reshape(both.shape), both)
    assert recording.ids.tolist() == [0, 1] * 4


def test_frames_and_people_in_columns(read_poses) -> None:
    header = ["frame", "person_id", *(word.format(axis) for word in words("nose_x") for axis in "xy")]
    rows = np.column_stack([[5, 7, 7, 8], [3, 3, 4, 4], XYZ[..., :2].reshape(4, -1)])
    recording = read_poses("table", csv(header, rows), "coco-17")
    assert recording.counts.tolist() == [1, 0, 2, 2]  # frames 5 to 8; in the last one person 3 is absent
    assert recording.ids.tolist() == [3, 3, 4, 3, 4]
    np.testing.assert_allclose(recording.xyz[[0, 1, 2, 4], :, :2], XYZ[..., :2])


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("people", [1, 2])
def test_a_row_per_joint(read_poses, first: int, people: int) -> None:
    rows = [
        (t, m, v + first, *(XYZ[t, v] + 10 * m), SCORES[t, v])
        for t in range(4)
        for m in range(people)
        for v in range(17)
    ]
    order = np.random.default_rng(2).permutation(len(rows))
    recording = read_poses(
        "table", csv(["frame", "person", "joint", "x", "y", "z", "score"], np.array(rows)[order]), "coco-17"
    )
    assert recording.counts.tolist() == [people] * 4
    np.testing.assert_allclose(recording.xyz.reshape(4, people, 17, 3)[:, 0], XYZ)
    np.testing.assert_allclose(recording.xyz.reshape(4, people, 17, 3)[:, -1], XYZ + 10 * (people - 1))


def test_joints_without_a_row_were_not_found(read_poses) -> None:
    rows = [(t, v, *XYZ[t, v, :2]) for t in range(4) for v in range(17) if (t, v) != (2, 5)]
    recording = read_poses("table", csv(["frame", "joint", "x", "y"], np.array(rows)), "coco-17")
    assert np.argwhere(np.isnan(recording.xyz[..., 0])).tolist() == [[2, 5]]


def test_a_missing_value_is_a_joint_that_was_not_found(read_poses) -> None:
    numbers = XYZ.copy()
    numbers[1, 3] = -1
    recording = read_poses("table", csv(None, numbers.reshape(4, -1)), "coco-17", missing_value=-1.0)
    assert np.argwhere(np.isnan(recording.xyz[..., 0])).tolist() == [[1, 3]]


NAMES = [word.format(axis) for word in words("nose_x") for axis in "xy"]


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        (None, 50, r"rows of 50 numbers; 51 or 34 are expected for 17 joints"),
        ([*NAMES, "mood"], 35, r":1: column 'mood' is neither a joint's coordinate or score nor a frame"),
        (NAMES[:-2], 32, r":1: there is no column for joint 'right ankle'"),
        (NAMES[:-1], 33, r":1: there is no column for y of joint 'right ankle'"),
        ([*NAMES[:-2], "tail_x", "tail_y"], 34, r":1: there is no joint 'tail' in the layout coco-17"),
        ([*NAMES, "nose_x"], 35, r":1: two columns hold x of joint 'nose'"),
        ([f"{axis}_{v}" for axis in "xy" for v in range(2, 19)], 34, r":1: joints 0 to 16 or 1 to 17"),
        (["frame", "joint", "x", "y", "mood"], 5, r":1: column 'mood' has no meaning"),
        (["joint", "x", "y"], 3, r":1: a table of one row per joint needs a column 'frame'"),
        (["frame", "joint", "x", "y"], 4, r": joints 0 to 16 or 1 to 17 are expected, found 1 from 1 to 1"),
        (["frame", *NAMES], 35, None),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit(read_poses, header, columns: int, message: str | None) -> None:
    text = csv(header, np.ones((3, columns)))
    if message is None:  # three people in frame 1
        assert read_poses("table", text, "coco-17").counts.tolist() == [3]
        return
    with pytest.raises(RawError, match=rf"^a\.json:?.*{message}"):
        read_poses("table", text, "coco-17")


def test_a_joint_that_is_there_twice(read_poses) -> None:
    rows = [(1, v, *XYZ[0, v, :2]) for v in (*range(17), 4)]
    with pytest.raises(RawError, match=r"^a\.json:19: joint 4 of frame 1 is there twice$"):
        read_poses("table", csv(["frame", "joint", "x", "y"], np.array(rows)), "coco-17")


def test_several_readings_are_refused(read_poses) -> None:
    """Two bodies with x, y and score, or three with x and y."""
    with pytest.raises(RawError, match=r"rows of 102 numbers; several readings fit: name the channels"):
        read_poses("table", csv(None, np.ones((3, 102))), "coco-17", bodies=3)
