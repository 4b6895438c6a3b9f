"""Following people through frames, against people whose identity is known."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.raw.poses.following import GAP, GATE, follow, slots_of

V = 6


def walkers(starts: np.ndarray, steps: np.ndarray, frames: int, seed: int) -> np.ndarray:
    """[frames,people,V,3]: bodies two units high that walk, each a little different in every frame."""
    rng = np.random.default_rng(seed)
    body = rng.uniform(-0.3, 0.3, (len(starts), 1, V, 3)) + np.linspace(-1, 1, V)[:, None] * np.array([0, 1, 0])
    path = starts[:, None] + steps[:, None] * np.arange(frames)[None, :, None]
    return (body + path[:, :, None] + rng.normal(0, 0.01, (len(starts), frames, V, 3))).swapaxes(0, 1)


def listed(poses: np.ndarray, seen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Frame, identity and pose of each body seen, bodies of a frame in random order."""
    rows = [(t, m) for t in range(len(seen)) for m in rng.permutation(seen.shape[1]) if seen[t, m]]
    frame, who = np.array(rows).T
    return frame, who, poses[frame, who]


def same_partition(ids: np.ndarray, who: np.ndarray) -> bool:
    pairs = set(zip(ids.tolist(), who.tolist(), strict=True))
    return len(pairs) == len(set(ids.tolist())) == len(set(who.tolist()))


@given(st.integers(0, 10_000), st.integers(2, 4), st.booleans())
def test_people_in_shuffled_order_are_followed(seed: int, people: int, crossing: bool) -> None:
    """Also where their paths cross at a distance, with joints and people that were not found."""
    rng = np.random.default_rng(seed)
    starts = np.stack([np.linspace(0, 4, people), np.zeros(people), 2.0 * np.arange(people)], axis=1)
    steps = np.zeros((people, 3))
    if crossing:  # everybody walks to the mirrored place, two units behind one another
        steps[:, 0] = (starts[::-1, 0] - starts[:, 0]) / 60
    poses = walkers(starts, steps, 60, seed)
    seen = rng.random((60, people)) > 0.3
    seen[0] = True
    poses[rng.random(poses.shape[:3]) < 0.2] = np.nan
    frame, who, xyz = listed(poses, seen, rng)
    there = (~np.isnan(xyz[:, :, 0])).sum(axis=1) >= 4
    assert same_partition(follow(frame[there], xyz[there]), who[there])


def test_the_order_in_a_frame_does_not_matter() -> None:
    poses = walkers(np.array([[0.0, 0, 0], [1.5, 0, 0], [3, 0, 0]]), np.zeros((3, 3)), 2, 1)
    first = poses[0]
    for order in permutations(range(3)):
        xyz = np.concatenate([first, poses[1][list(order)]])
        assert follow(np.array([0, 0, 0, 1, 1, 1]), xyz).tolist() == [0, 1, 2, *order]


def body(x: float) -> np.ndarray:
    """A body of size 1 at x."""
    return np.array([[x, 0, 0], [x, 1, 0], [x, 0.5, 0]])


@pytest.mark.parametrize(("away", "ids"), [(GATE - 0.01, [0, 0]), (GATE + 0.01, [0, 1])])
def test_beyond_the_gate_begins_another_person(away: float, ids: list[int]) -> None:
    assert follow(np.array([0, 1]), np.stack([body(0), body(away)])).tolist() == ids


@pytest.mark.parametrize(("scale"), [1e-3, 1, 1e4])
def test_the_gate_is_relative_to_the_size_of_the_body(scale: float) -> None:
    near, far = body(0.4), body(0.6)
    assert follow(np.array([0, 1]), scale * np.stack([body(0), near])).tolist() == [0, 0]
    assert follow(np.array([0, 1]), scale * np.stack([body(0), far])).tolist() == [0, 1]


@pytest.mark.parametrize(("later", "ids"), [(GAP + 1, [0, 0]), (GAP + 2, [0, 1])])
def test_gaps_are_bridged_up_to_a_length(later: int, ids: list[int]) -> None:
    assert follow(np.array([0, later]), np.stack([body(0), body(0)])).tolist() == ids


def test_whoever_is_missed_does_not_take_anothers_name() -> None:
    """Of two people 0.4 apart one is missed: the other one keeps the name, as continuing costs least."""
    xyz = np.stack([body(0), body(0.4), body(0.39), body(0.01), body(0.41)])
    assert follow(np.array([0, 0, 1, 2, 2]), xyz).tolist() == [0, 1, 1, 0, 1]


def test_a_newcomer_does_not_push_people_on() -> None:
    """One who left at 0, one who stays at 0.4, one who comes at 0.8: nobody moves by half a body for that."""
    xyz = np.stack([body(0), body(0.4), body(0.4), body(0.8)])
    assert follow(np.array([0, 0, 1, 1]), xyz).tolist() == [0, 1, 1, 2]


def test_only_joints_found_in_both_count() -> None:
    one, other = body(0), body(0.1)
    one[2], other[0] = np.nan, np.nan
    apart = body(0.1)
    apart[:2] = np.nan  # no joint in common with the first
    assert follow(np.array([0, 1]), np.stack([one, other])).tolist() == [0, 0]
    assert follow(np.array([0, 1]), np.stack([one, apart])).tolist() == [0, 1]


def test_huge_positions_do_no_harm() -> None:
    assert follow(np.array([0, 1]), np.stack([body(0) * 1e300, body(0) * 1e300])).tolist() in ([0, 0], [0, 1])
    assert follow(np.zeros(0, np.int64), np.zeros((0, V, 3))).tolist() == []


def test_people_keep_their_slots() -> None:
    """Person 7 leaves, 8 stays, 9 takes the free slot; 8 is away for a while and keeps hers."""
    frames = np.array([0, 0, 1, 1, 2, 3, 4, 4])
    ids = np.array([7, 8, 8, 7, 9, 9, 8, 9])
    assert slots_of(frames, ids).tolist() == [0, 1, 1, 0, 0, 0, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=40, unique=True))
def test_nobody_shares_a_slot(pairs: list[tuple[int, int]]) -> None:
    frames, ids = np.array(sorted(pairs)).T
    slots = slots_of(frames, ids)
    assert len(set(zip(frames.tolist(), slots.tolist(), strict=True))) == len(frames)
    for one in np.unique(ids):
        assert len(set(slots[ids == one].tolist())) == 1
