"""The choice of bodies by motion: who is chosen, into which slot, and who is counted as left out."""

from itertools import permutations

import numpy as np
import pytest

from skelpipe.preprocess.body_choice import moving_bodies

V = 5


def pose(place: float) -> np.ndarray:
    return np.full((V, 3), place) + np.arange(V)[:, None]


def still_and_moving(of: list[int], frames: int = 20):
    """One body per speed, with ids from 10 on, in the order listed: body k moves by `of[k]` each frame."""
    return [[(10 + k, pose(100 * k + speed * t)) for k, speed in enumerate(of)] for t in range(frames)]


@pytest.mark.parametrize("speeds", list(permutations([0, 1, 3])))
def test_those_that_move_most_are_kept_in_the_order_of_the_file(recorded, speeds: tuple[int, ...]) -> None:
    frames = still_and_moving(list(speeds))
    got, left_out = moving_bodies(recorded(frames), 2)
    kept = [k for k, speed in enumerate(speeds) if speed]
    assert left_out == 1
    assert got.counts.tolist() == [2] * 20
    expected = [[frame[k][1] for k in kept] for frame in frames]
    np.testing.assert_array_equal(got.xyz.reshape(20, 2, V, 3), expected)


def test_motion_is_summed_over_frames_and_ignores_joints_that_were_not_found(recorded) -> None:
    """Against the formula in float64: the sum of squared distances from each joint's mean."""
    rng = np.random.default_rng(1)
    walks = [rng.normal(size=(30, V, 3)).cumsum(axis=0) * scale for scale in (1, 1.2, 0.9, 1.1)]
    for walk in walks:
        walk[rng.random((30, V)) < 0.2] = np.nan
    lengths = [30, 20, 30, 25]
    motions = [
        sum(np.nansum((walk[:n, v] - np.nanmean(walk[:n, v], axis=0)) ** 2) for v in range(V))
        for walk, n in zip(walks, lengths, strict=True)
    ]
    best = sorted(np.argsort(motions)[::-1][:2])
    frames = [[(k, walks[k][t]) for k in range(4) if t < lengths[k]] for t in range(30)]
    got, left_out = moving_bodies(recorded(frames), 2)
    assert left_out == 2
    for slot, k in enumerate(best):
        np.testing.assert_array_equal(got.xyz[got.ids == slot], walks[k][: lengths[k]])


def test_equal_motion_is_decided_by_the_order_of_the_file(recorded) -> None:
    frames = still_and_moving([1, 1, 1])
    got, left_out = moving_bodies(recorded(frames), 1)
    assert left_out == 2
    np.testing.assert_array_equal(got.xyz, [frame[0][1] for frame in frames])


def test_a_body_that_returns_under_another_id_takes_the_slot_that_is_free(recorded) -> None:
    frames = [
        [(1, pose(2 * t)), (2, pose(t + 50))] if t < 10 else [(2, pose(t + 50)), (7, pose(2 * t))]
        for t in range(20)
    ]
    got, left_out = moving_bodies(recorded(frames), 2)
    assert left_out == 0
    np.testing.assert_array_equal(got.xyz[::2], [pose(2 * t) for t in range(20)])
    np.testing.assert_array_equal(got.xyz[1::2], [pose(t + 50) for t in range(20)])


def test_bodies_keep_their_slots_while_another_is_away(recorded) -> None:
    frames = [[(3, pose(t)), (4, pose(90 - t))] if t % 2 else [(4, pose(90 - t))] for t in range(1, 21)]
    scores = np.arange(30.0 * V).reshape(30, V)
    got, left_out = moving_bodies(recorded(frames, scores), 2)
    assert left_out == 0
    slots = got.xyz.reshape(20, 2, V, 3)
    assert not slots[1::2, 0].any()
    np.testing.assert_array_equal(slots[:, 1], [pose(90 - t) for t in range(1, 21)])
    assert not got.scores.reshape(20, 2, V)[1::2, 0].any()
    np.testing.assert_array_equal(got.scores.reshape(20, 2, V)[1::2, 1], scores.reshape(-1, 3, V)[:, 2])


def test_an_id_that_a_frame_lists_twice_is_two_bodies(recorded) -> None:
    frames = [[(0, pose(t)), (0, pose(3 * t + 50))] for t in range(15)]
    got, left_out = moving_bodies(recorded(frames), 1)
    assert left_out == 1
    np.testing.assert_array_equal(got.xyz, [pose(3 * t + 50) for t in range(15)])


def test_any_number_of_bodies(recorded) -> None:
    frames = still_and_moving(list(range(40)))
    got, left_out = moving_bodies(recorded(frames), 12)
    assert (got.bodies, left_out) == (12, 28)
    np.testing.assert_array_equal(got.xyz[:12], [frames[0][k][1] for k in range(28, 40)])
