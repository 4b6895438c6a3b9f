"""Frames that show no body: every policy against plain lists of frames."""

import numpy as np
import pytest

from skelpipe.preprocess.empty_frames import fill_frames, shown_frames

V = 4


def pose(t: float, body: int = 0) -> np.ndarray:
    return np.arange(1, V + 1)[:, None] + np.array([t, 2 * t, 100 * body])


def as_frames(recording) -> list[list[tuple[int, list]]]:
    ends = np.cumsum(recording.counts)
    return [
        [(int(recording.ids[row]), recording.xyz[row].tolist()) for row in range(end - count, end)]
        for end, count in zip(ends, recording.counts, strict=True)
    ]


def plain(frames) -> list[list[tuple[int, list]]]:
    return [[(identity, joints.tolist()) for identity, joints in frame] for frame in frames]


ZERO = np.zeros((V, 3))
EMPTY = [[], [(0, ZERO)], [(0, ZERO), (1, ZERO)]]  # no body is listed, or all that are listed lie at the origin


@pytest.mark.parametrize("empty", range(len(EMPTY)))
def test_one_body_that_comes_and_goes(recorded, empty: int) -> None:
    shown = [2, 3, 6, 7, 9]
    frames = [[(0, pose(t))] if t in shown else EMPTY[empty] for t in range(12)]
    recording = recorded(frames)
    assert shown_frames(recording).tolist() == [t in shown for t in range(12)]
    assert fill_frames(recording, "as-authors") is recording
    assert as_frames(fill_frames(recording, "dropped")) == plain([[(0, pose(t))] for t in shown])
    held = [2, 2, 2, 3, 3, 3, 6, 7, 7, 9, 9, 9]
    assert as_frames(fill_frames(recording, "held")) == plain([[(0, pose(t))] for t in held])
    moved = [2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9]  # poses are linear in t
    got = as_frames(fill_frames(recording, "interpolated"))
    np.testing.assert_allclose([frame[0][1] for frame in got], [pose(t) for t in moved], rtol=1e-12)
    assert [len(frame) for frame in got] == [1] * 12 if empty < 2 else True


def test_bodies_in_both_neighbours_move_and_others_are_absent(recorded) -> None:
    frames = [[(5, pose(0)), (8, pose(0, 1))], [], [], [], [(8, pose(4, 1)), (9, pose(4, 2))]]
    got = as_frames(fill_frames(recorded(frames), "interpolated"))
    for t in (1, 2, 3):
        assert got[t][0] == (5, ZERO.tolist())
        assert got[t][1][0] == 8
        np.testing.assert_allclose(got[t][1][1], pose(t, 1), rtol=1e-12)
    assert got[0] == plain(frames)[0]
    assert got[4] == plain(frames)[4]


def test_where_nobody_is_in_both_neighbours_the_last_pose_is_held(recorded) -> None:
    frames = [[(5, pose(0))], [], [(6, pose(2))]]
    assert as_frames(fill_frames(recorded(frames), "interpolated")) == plain([frames[0], frames[0], frames[2]])


@pytest.mark.parametrize("policy", ["dropped", "held", "interpolated"])
def test_the_absence_of_one_of_two_bodies_stays(recorded, policy: str) -> None:
    frames = [[(0, pose(t)), (1, pose(t, 1))] if t % 3 else [(0, pose(t))] for t in range(9)]
    recording = recorded(frames)
    assert fill_frames(recording, policy) is recording
    absent = recorded([[(0, ZERO), (1, pose(t, 1))] for t in range(4)])
    assert fill_frames(absent, policy) is absent


@pytest.mark.parametrize("policy", ["held", "interpolated"])
def test_poses_that_are_made_up_have_no_score(recorded, policy: str) -> None:
    frames = [[], [(0, pose(1))], [], [(0, pose(3))], []]
    got = fill_frames(recorded(frames, np.full((2, V), 0.5)), policy)
    assert got.scores.tolist() == [[0.0] * V, [0.5] * V, [0.0] * V, [0.5] * V, [0.0] * V]


def test_a_recording_without_any_body_is_left_alone(recorded) -> None:
    recording = recorded([[(0, ZERO)], [(0, ZERO)]])
    assert fill_frames(recording, "held") is recording
