"""Joints that were not found: every policy against plain loops over frames, bodies and joints."""

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.preprocess.missing_joints import fill_joints
from skelpipe.skeleton import layout, parse_layout

STICK = parse_layout(
    {
        **{"name": "stick", "joints": ["foot", "knee", "hip", "neck", "head", "hand"], "centre": "hip"},
        **{"shoulders": {"left": "head", "right": "hand"}},
        "bones": {"knee": "hip", "foot": "knee", "neck": "hip", "head": "neck", "hand": "neck"},
        **{
            "mirror": [["head", "hand"]],
            "parts": {"low": ["foot", "knee", "hip"], "high": ["neck", "head", "hand"]},
        },
    },
    "stick",
)
FOOT, KNEE, HIP, NECK, HEAD, HAND = range(6)


def walk(frames: int = 12, seed: int = 0) -> np.ndarray:
    return 5 + np.random.default_rng(seed).normal(size=(frames, 6, 3)).cumsum(axis=0)


def over_time(track: np.ndarray, linear: bool) -> np.ndarray:
    """`track` [F,V,3] with NaN for joints that were not found, filled joint by joint from its other frames."""
    filled = track.copy()
    for v in range(track.shape[1]):
        found = [t for t in range(len(track)) if not np.isnan(track[t, v]).any()]
        for t in range(len(track)):
            before = [f for f in found if f <= t]
            if found and linear:
                filled[t, v] = [np.interp(t, found, track[found, v, c]) for c in range(3)]
            elif found:
                filled[t, v] = track[before[-1] if before else found[0], v]
    return filled


@pytest.mark.parametrize("policy", ["held", "interpolated"])
@pytest.mark.parametrize("seed", range(6))
def test_joints_are_filled_from_other_frames_of_their_body(recorded, policy: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracks = [walk(seed=seed), 90 + walk(seed=seed + 100)]
    for track in tracks:
        track[rng.random(track.shape[:2]) < 0.4] = np.nan
        track[rng.integers(12)] = 7  # every joint is found once at least
    order = [(0, 1) if rng.random() < 0.5 else (1, 0) for _ in range(12)]  # bodies change places in the file
    frames = [[(k + 40, tracks[k][t]) for k in order[t]] for t in range(12)]
    got = fill_joints(recorded(frames), STICK, policy)
    # A body of which nothing was found is absent in that frame.
    expected = [over_time(track, policy == "interpolated") for track in tracks]
    for t, ks in enumerate(order):
        for position, k in enumerate(ks):
            pose = got.xyz[2 * t + position]
            if np.isnan(tracks[k][t]).any(axis=1).all():
                assert not pose.any()
            else:
                np.testing.assert_allclose(pose, expected[k][t], rtol=1e-12)


def test_parent_is_the_nearest_joint_above_that_was_found_else_the_nearest(recorded) -> None:
    track = walk(5)
    poses = track.copy()
    poses[0, [FOOT, KNEE]] = np.nan  # the knee is missing too: from the hip
    poses[1, HEAD] = np.nan  # from the neck
    poses[2, [HIP, NECK, HEAD]] = np.nan  # no joint above the hip: knee and neck are one bone away
    poses[3, [HIP, KNEE]] = np.nan
    got = fill_joints(recorded([[(0, pose)] for pose in poses]), STICK, "parent").xyz
    np.testing.assert_array_equal(got[0, [FOOT, KNEE]], track[0, [HIP, HIP]])
    np.testing.assert_array_equal(got[1, HEAD], track[1, NECK])
    np.testing.assert_array_equal(got[2, HIP], track[2, KNEE])
    np.testing.assert_array_equal(got[2, [NECK, HEAD]], track[2, [HAND, HAND]])  # 1 and 2 bones away, knee 2 and 3
    np.testing.assert_array_equal(got[3, [HIP, KNEE]], track[3, [NECK, FOOT]])
    known = ~np.isnan(poses)
    np.testing.assert_array_equal(got[known], track[known])


@pytest.mark.parametrize("policy", ["held", "interpolated", "parent"])
def test_a_joint_that_is_never_found_lies_at_its_parent(recorded, policy: str) -> None:
    track = walk()
    poses = track.copy()
    poses[:, HAND] = np.nan
    poses[3, KNEE] = np.nan
    scores = np.full((12, 6), 0.75)
    got = fill_joints(recorded([[(0, pose)] for pose in poses], scores), STICK, policy)
    np.testing.assert_array_equal(got.xyz[:, HAND], track[:, NECK])
    expected = scores.copy()
    expected[:, HAND] = expected[3, KNEE] = 0
    np.testing.assert_array_equal(got.scores, expected)


def test_refused_names_frame_body_joint_and_key(recorded) -> None:
    frames = [[(0, walk()[t]), (1, walk(seed=1)[t])] for t in range(12)]
    frames[4][1][1][HEAD] = np.nan
    with pytest.raises(RawError, match=r"^frame 5, body 2, joint 5 \(head\): was not found .*missing_joints"):
        fill_joints(recorded(frames), STICK, "refused")


@pytest.mark.parametrize("policy", ["refused", "held", "interpolated", "parent"])
def test_a_body_of_which_nothing_was_found_is_absent(recorded, policy: str) -> None:
    poses = walk()
    poses[2:5] = np.nan
    got = fill_joints(recorded([[(0, pose)] for pose in poses], np.ones((12, 6))), STICK, policy)
    assert not got.xyz[2:5].any()
    assert not got.scores[2:5].any()
    np.testing.assert_array_equal(got.xyz[5:], poses[5:])


def test_nothing_is_copied_where_all_joints_were_found(recorded) -> None:
    recording = recorded([[(0, pose)] for pose in walk()])
    assert fill_joints(recording, STICK, "parent") is recording


@pytest.mark.parametrize("name", ["kinect-v2-25", "coco-17"])
def test_one_joint_found_is_enough_in_every_layout(recorded, name: str) -> None:
    joints = len(layout(name))
    for only in range(joints):
        pose = np.full((joints, 3), np.nan)
        pose[only] = 1, 2, 3
        got = fill_joints(recorded([[(0, pose)]]), layout(name), "parent")
        np.testing.assert_array_equal(got.xyz[0], np.tile([1.0, 2, 3], (joints, 1)))
