"""From people in frames to recordings."""

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.poses.people import (
    People,
    are_fractions,
    check_joint_names,
    gather,
    joint_key,
    last_number,
    recording_of,
)
from skelpipe.skeleton import layout

COCO = layout("coco-17")
V = len(COCO)
POSE = np.random.default_rng(0).uniform(0, 1, (V, 3))


def people(*at: tuple[int, float]) -> People:
    """People of the ids, moved along x."""
    return gather([POSE + np.array([x, 0, 0]) for _, x in at], None, [identity for identity, _ in at], V)


def test_people_keep_slots_and_the_absent_are_zeros() -> None:
    frames = {3: people((7, 0), (5, 10)), 5: people((5, 10)), 4: people((5, 10), (7, 0)), 6: people((7, 0))}
    recording = recording_of(frames, "a", Form(COCO))
    assert recording.counts.tolist() == [2, 2, 2, 1]
    assert recording.ids.tolist() == [7, 5, 7, 5, 7, 5, 7]
    assert not recording.xyz[4].any()
    np.testing.assert_array_equal(recording.xyz[5], POSE + np.array([10, 0, 0]))
    assert (recording.counts.dtype, recording.ids.dtype, recording.xyz.dtype) == (np.int32, np.int64, np.float64)


def test_one_without_an_id_means_that_all_are_followed() -> None:
    frames = {0: people((7, 0), (-1, 10)), 1: people((7, 10), (3, 0))}
    recording = recording_of(frames, "a", Form(COCO))
    assert recording.ids.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(recording.xyz[2], POSE)


def test_an_id_of_64_bits_is_kept() -> None:
    assert recording_of({0: people(((1 << 62) + 1, 0))}, "a", Form(COCO)).ids.tolist() == [(1 << 62) + 1]


def test_nobody_in_any_frame() -> None:
    empty = gather([], None, [], V)
    assert recording_of({2: empty, 4: empty}, "a", Form(COCO)).counts.tolist() == [0, 0, 0]
    assert recording_of({}, "a", Form(COCO)).frames == 0


def test_scores_of_some_are_refused() -> None:
    scored = gather([POSE], [np.ones(V)], [0], V)
    with pytest.raises(RawError, match=r"^a: some of its people have scores, others have none$"):
        recording_of({0: people((0, 0)), 1: scored}, "a", Form(COCO))


def test_a_score_without_a_number_is_zero_and_an_infinite_one_damage() -> None:
    sure = np.ones(V)
    sure[3] = np.nan
    recording = recording_of({0: gather([POSE], [sure], [0], V)}, "a", Form(COCO))
    assert recording.scores is not None
    assert np.flatnonzero(recording.scores[0] == 0).tolist() == [3]
    sure[3] = np.inf
    with pytest.raises(RawError, match=r"^a: a score is not finite$"):
        recording_of({0: gather([POSE], [sure], [0], V)}, "a", Form(COCO))


@pytest.mark.parametrize(
    ("name", "number"),
    [("0.jpg", 0), ("frame_0012.png", 12), ("cam2_7", 7), ("a1b2c.jpeg", 2), ("x.12.jpg", 12)],
)
def test_the_last_number_of_a_name(name: str, number: int) -> None:
    assert last_number(name, "a") == number


@pytest.mark.parametrize("name", ["frame.jpg", "", f"{'9' * 40}.jpg"])
def test_a_name_without_a_number(name: str) -> None:
    with pytest.raises(RawError, match=r"^a: .* holds no number of a frame$"):
        last_number(name, "a")


@pytest.mark.parametrize(
    "spelling", ["left shoulder", "LEFT_SHOULDER", "SHOULDER_LEFT", "LeftShoulder", "l_shoulder"]
)
def test_spellings_of_a_joint(spelling: str) -> None:
    assert joint_key(spelling) == ("left", "shoulder")


def test_names_of_another_order_are_refused_and_unknown_words_are_not() -> None:
    names = [joint.replace("ankle", "foot") for joint in COCO.joints]
    check_joint_names(names, Form(COCO), "a")
    with pytest.raises(
        RawError, match=r"^a: joint 2 is 'right eye' in the file, 'left eye' in the layout coco-17$"
    ):
        check_joint_names([names[0], names[2], names[1], *names[3:]], Form(COCO), "a")


def test_single_joints_do_not_decide_what_positions_are() -> None:
    xyz = np.random.default_rng(0).uniform(0, 1, (20, 17, 3))
    xyz[3, 4] = 1.02
    assert are_fractions(xyz, "a.json")
    xyz[3, 4] = 700
    with pytest.raises(RawError, match=r"^a\.json: most of its positions look like fractions .* one is 700"):
        are_fractions(xyz, "a.json")
    assert not are_fractions(xyz * 640, "a.json")
