"""What is counted as real, and that the policies are applied before the profile."""

import numpy as np
import pytest

from skelpipe.errors import UsageError
from skelpipe.preprocess import AS_AUTHORS, Completeness, Policies, profile_writer, settle
from skelpipe.skeleton import layout

COCO = layout("coco-17")
FILLED = Policies("motion", "dropped", "parent")


def bodies(frames: int, count: int, seed: int = 0) -> np.ndarray:
    """[F,M,17,3]: every next body moves more."""
    rng = np.random.default_rng(seed)
    return 3 + rng.normal(size=(frames, count, 17, 3)).cumsum(axis=0) * np.arange(1, count + 1)[:, None, None]


def listed(poses: np.ndarray) -> list:
    return [list(enumerate(frame)) for frame in poses]


def test_frames_joints_and_bodies_are_counted(recorded) -> None:
    poses = bodies(20, 2)
    poses[:5] = 0
    poses[7, 1] = 0
    poses[8, 0, 4:7] = np.nan
    poses[9, 1, 2, 1] = np.nan
    _, real = settle(recorded(listed(poses)), COCO, FILLED, 2)
    shown = 15 * 2 - 1
    assert real == Completeness(15, shown * 17, shown * 17 - 4, 0)


@pytest.mark.parametrize("policies", [AS_AUTHORS, FILLED])
def test_bodies_that_have_no_slot_count_as_left_out(recorded, policies: Policies) -> None:
    poses = bodies(20, 5)
    settled, real = settle(recorded(listed(poses)), COCO, policies, 3)
    assert real == Completeness(20, 20 * 3 * 17, 20 * 3 * 17, 2)
    if policies.body_choice == "motion":
        np.testing.assert_array_equal(settled.xyz.reshape(20, 3, 17, 3), poses[:, 2:])


def test_joints_of_a_body_that_is_left_out_are_not_refused(recorded) -> None:
    poses = bodies(20, 3)
    poses[4, 2, 5] = np.nan
    settled, real = settle(recorded(listed(poses)), COCO, AS_AUTHORS, 2)
    assert real == Completeness(20, 20 * 2 * 17, 20 * 2 * 17, 1)
    np.testing.assert_array_equal(settled.xyz.reshape(20, 2, 17, 3), poses[:, :2])


def test_the_default_changes_nothing(recorded) -> None:
    recording = recorded(listed(bodies(20, 2)))
    assert settle(recording, COCO, AS_AUTHORS, 2)[0] is recording
    assert settle(recording, COCO, FILLED, 2)[0] is recording


def test_profile_ctrgcn_counts_the_bodies_that_are_no_actor(recorded) -> None:
    poses = bodies(30, 3) * [1, 9, 1]
    out = np.empty((3, 8, 17, 2), np.float32)
    real = profile_writer("ctrgcn")(recorded(listed(poses)), COCO, 8, 2, out)
    assert real.bodies_left_out == 1
    assert profile_writer("ctrgcn")(recorded(listed(poses[:, :1])), COCO, 8, 2, out).bodies_left_out == 0


@pytest.mark.parametrize("policy", ["dropped", "held", "interpolated"])
def test_a_clip_of_every_policy_is_that_of_the_filled_recording(recorded, policy: str) -> None:
    """Profile `crosclr` of the frames that the policy gives, all of which count, whatever joint 0 is."""
    poses = bodies(12, 1)
    poses[:, 0, 0] = 0  # joint 0 at the origin: as the authors do it, no frame counts
    poses[[0, 5, 6]] = 0
    known = [t for t in range(12) if t not in (0, 5, 6)]
    flat = poses.reshape(12, -1)
    filled = {
        "dropped": poses[known],
        "held": poses[[1, 1, 2, 3, 4, 4, 4, 7, 8, 9, 10, 11]],
        "interpolated": np.stack(
            [np.interp(np.arange(12), known, column[known]) for column in flat.T], axis=1
        ).reshape(poses.shape),
    }[policy]
    got, expected = np.empty((2, 3, 8, 17, 1), np.float32)
    write = profile_writer("crosclr", policies=Policies(empty_frames=policy))
    write(recorded(listed(poses)), COCO, 8, 1, got)
    filled = filled + 1  # the same motion elsewhere, with no joint at the origin
    profile_writer("crosclr")(recorded(listed(filled)), COCO, 8, 1, expected)
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_policies_of_cards() -> None:
    assert Policies.of_options({"split": "xsub"}) == AS_AUTHORS  # cards of version 1
    assert Policies.of_options({"empty_frames": "held", "body_choice": None}).empty_frames == "held"
    with pytest.raises(UsageError, match="missing_joints: 'guess' is unknown; there are: refused, held"):
        Policies(missing_joints="guess")
