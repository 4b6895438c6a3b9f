"""The rules of profile `ctrgcn`, one by one, on constructed recordings whose clips are known.

A body here is a line of joints with a height of its own. The height does not depend on the origin, so it shows
which body is in which slot. Taller bodies have the larger motion (the variance of all joints).
"""

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.preprocess.ctrgcn import ctrgcn
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
FIRST_ID = 72057594037930000
NOBODY = np.zeros((25, 3))


def figure(height: float, width: float | None = None) -> np.ndarray:
    """Joints on a line from the feet up; by default x range over y range is 0.5, which is not noisy."""
    share = np.linspace(0, 1, 25)[:, None]
    return share * [height / 2 if width is None else width, height, 0] + [0.5, -1, 3 + 0.1 * height]


def film(length: int, *bodies) -> Recording:
    """A recording of bodies, each (pose or function of the frame, its frames); their ids differ by one."""
    counts = [0] * length
    ids, poses = [], []
    for t in range(length):
        for number, (pose, present) in enumerate(bodies):
            if t in present:
                counts[t] += 1
                ids.append(FIRST_ID + number)
                poses.append(pose(t) if callable(pose) else pose)
    return Recording(np.array(counts, np.int32), np.array(ids, np.int64), np.array(poses).reshape(-1, 25, 3))


def clip(recording: Recording, frames: int, bodies: int = 2, second_body: str = "zeros") -> np.ndarray:
    out = np.full((3, frames, 25, bodies), np.nan, np.float32)
    ctrgcn(recording, KINECT, frames, bodies, out, second_body)
    return out


def heights(recording: Recording, frames: int | None = None) -> list[list[float]]:
    """The heights in slot 1 and slot 2, frame by frame; the clip is as long as the recording."""
    y = clip(recording, frames or recording.frames)[1].astype(float)
    return np.round(np.ptp(y, axis=1), 4).T.tolist()


def line(*pieces: tuple[int, float]) -> list[float]:
    """(n, h), ...: n frames of height h each."""
    return [h for n, h in pieces for _ in range(n)]


def test_frames_without_bodies_are_dropped_and_time_contracts() -> None:
    gaps = film(40, (lambda t: figure(1 + t), [t for t in range(40) if t % 4]))
    assert heights(gaps, 30)[0] == [1 + t for t in range(40) if t % 4]
    # The frames of the two bodies are neighbours once the empty ones are gone: no overlap.
    pair = film(40, (figure(3), range(13)), (figure(2), range(20, 40)))
    assert heights(pair, 33) == [line((13, 3), (20, 2)), line((33, 0))]


def test_ids_that_float64_cannot_tell_apart_are_two_bodies() -> None:
    assert float(FIRST_ID) == float(FIRST_ID + 1)
    both = film(20, (figure(3), range(20)), (figure(2), range(20)))
    assert heights(both) == [line((20, 3)), line((20, 2))]


def test_an_id_that_a_frame_lists_twice_counts_once_as_first_listed() -> None:
    poses = np.stack([figure(h) for _ in range(6) for h in (3, 2)])
    twice = Recording(np.full(6, 2, np.int32), np.zeros(12, np.int64), poses)
    assert heights(twice) == [line((6, 3)), line((6, 0))]


def test_a_single_body_is_taken_as_it_is() -> None:
    """Few frames, all of them noisy, one lost: none of it matters where no other body is listed."""
    poses = [figure(1, width=5), NOBODY, figure(2, width=9)]
    recording = film(3, (poses.__getitem__, range(3)))
    assert heights(recording) == [[1, 0, 2], [0, 0, 0]]
    got = clip(recording, 3)
    np.testing.assert_allclose(got[:, 2, :, 0].T, poses[2] - poses[0][1], atol=1e-6)
    assert not got[:, 1].any()  # the frame in which the actor is absent


def test_bodies_of_eleven_frames_are_dropped_and_of_twelve_stay() -> None:
    for n, second in ((11, line((30, 0))), (12, line((12, 1), (18, 0)))):
        assert heights(film(30, (figure(1), range(n)), (figure(2), range(30)))) == [line((30, 2)), second]
    # A returning body's frames are summed.
    back = film(30, (figure(1), [*range(6), *range(20, 26)]), (figure(2), range(30)))
    assert heights(back)[1] == line((6, 1), (14, 0), (6, 1), (4, 0))


def test_nobody_in_more_than_eleven_frames_is_an_error() -> None:
    with pytest.raises(RawError, match="^no body is seen in more than 11 frames$"):
        clip(film(22, (figure(1), range(11)), (figure(2), range(11, 22))), 8)


def test_a_body_that_is_alone_after_the_length_rule_is_not_tested_for_spread() -> None:
    wide = film(30, (figure(2, width=9), range(30)), (figure(1), range(11)))
    assert heights(wide)[0] == line((30, 2))


@pytest.mark.parametrize(("width", "stays"), [(0.799, True), (0.801, False)])
def test_a_frame_wider_than_four_fifths_of_its_height_is_noisy(width: float, stays: bool) -> None:
    both = film(30, (figure(2, width=2 * width), range(30)), (figure(1), range(30)))
    assert heights(both) == ([line((30, 2)), line((30, 1))] if stays else [line((30, 1)), line((30, 0))])


@pytest.mark.parametrize(("noisy", "length", "stays"), [(113, 162, True), (369, 529, False)])
def test_bodies_noisy_in_most_frames_are_removed(noisy: int, length: int, stays: bool) -> None:
    """The bound is a share of 0.69754: 113/162 is 0.697531, and 369/529 is 0.697543."""
    whole = range(length)
    mixed = film(length, (lambda t: figure(2, width=2 if t < noisy else 1), whole), (figure(1), whole))
    assert heights(mixed) == [line((length, 2 if stays else 1)), line((length, 1 if stays else 0))]


def test_the_last_body_left_stays_however_noisy() -> None:
    """Bodies are tested as they appear: the last one stays, a larger one before it does not."""
    crowd = [(figure(h, width=9), range(30)) for h in (3, 1, 2)]
    assert heights(film(30, *crowd)) == [line((30, 2)), line((30, 0))]


def test_motion_is_that_of_the_good_frames_where_it_is_smaller() -> None:
    mixed = film(30, (lambda t: figure(2, width=50 if t % 2 else 1), range(30)), (figure(3), range(30)))
    assert heights(mixed) == [line((30, 3)), line((30, 2))]


def test_motion_is_that_of_all_frames_where_it_is_smaller() -> None:
    heap = figure(0.1, width=0.5) + np.array([0, 0.95, 0])
    crumpled = film(30, (lambda t: heap if t % 2 else figure(2), range(30)), (figure(1.8), range(30)))
    assert heights(crumpled) == [line((30, 1.8)), [2.0, 0.1] * 15]


def test_motion_counts_frames_and_joints_together() -> None:
    """A smaller figure that walks has the larger motion, along any axis."""
    for axis in range(3):
        walk = film(30, (figure(2), range(30)), (lambda t, a=axis: figure(1) + 0.2 * t * np.eye(3)[a], range(30)))
        assert heights(walk) == [line((30, 1)), line((30, 2))]


def test_of_equal_motion_the_first_to_appear_is_actor_1() -> None:
    twins = film(30, (figure(2), range(30)), (figure(2) + np.array([0, 0, 1]), range(30)))
    assert clip(twins, 30)[2, 0, 0, 1] == pytest.approx(1)
    assert heights(film(30, (figure(1), range(30)), (figure(2), range(30)), (figure(3), range(30)))) == [
        line((30, 3)),
        line((30, 2)),
    ]


def test_bodies_with_one_common_frame_are_one_actor_and_the_later_overwrites() -> None:
    assert heights(film(40, (figure(3), range(21)), (figure(2), range(20, 40)))) == [
        line((20, 3), (20, 2)),
        line((40, 0)),
    ]
    assert heights(film(40, (figure(3), range(22)), (figure(2), range(20, 40)))) == [
        line((22, 3), (18, 0)),
        line((20, 0), (20, 2)),
    ]


def test_an_actors_interval_covers_the_gap_between_its_bodies() -> None:
    three = film(60, (figure(4), range(15)), (figure(3), range(40, 60)), (figure(2), range(18, 35)))
    assert heights(three, 52) == [
        line((15, 4), (17, 0), (20, 3)),
        line((15, 0), (17, 2), (20, 0)),
    ]


def test_a_body_that_returns_keeps_its_true_frames() -> None:
    returns = film(
        60, (figure(3), [*range(20), *range(40, 60)]), (figure(2), range(22, 38)), (figure(1), range(60))
    )
    # The second is present while the first is absent, so it is actor 2, and the third is nobody.
    assert heights(returns, 56) == [line((20, 3), (16, 0), (20, 3)), line((20, 0), (16, 2), (20, 0))]


@pytest.mark.parametrize("away", [[0, *range(30, 60)], [*range(30), 59]])
def test_the_interval_of_a_body_that_returns_covers_its_absence(away: list[int]) -> None:
    """Neither its first nor its last frame follows from the other and the number of its frames."""
    gap = [t for t in range(60) if t not in away]
    slots = heights(film(60, (figure(3), away), (figure(2), gap)))
    assert [set(slot) for slot in slots] == [{0, 3}, {0, 2}]


def test_the_second_actors_interval_reaches_back_to_the_first_frame() -> None:
    crowd = film(
        60,
        (figure(4), range(60)),
        (figure(3), range(30, 46)),
        (figure(2), range(5, 20)),  # overlaps 0..45: dropped
        (figure(1), range(45, 60)),  # touches in frame 45
    )
    assert heights(crowd) == [line((60, 4)), line((30, 0), (15, 3), (15, 1))]


def test_frames_without_either_actor_are_removed_where_several_bodies_are_listed() -> None:
    late = film(36, (figure(2), range(30)), (figure(1), range(25, 36)))
    np.testing.assert_array_equal(clip(late, 30), clip(film(30, (figure(2), range(30))), 30))
    lost = film(30, (lambda t: figure(2) if t != 7 else NOBODY, range(30)), (figure(1), range(5)))
    assert heights(lost, 29)[0] == line((29, 2))


def test_the_origin_is_actor_1s_first_spine_middle_and_absence_stays_zero() -> None:
    def tall(t: int) -> np.ndarray:
        return NOBODY if t == 10 else figure(3) + 0.1 * t

    got = clip(film(40, (tall, range(10, 40)), (figure(2), range(25))), 40)
    origin = tall(11)[1]
    np.testing.assert_allclose(got[:, 20, :, 0].T, tall(20) - origin, atol=1e-6)
    np.testing.assert_allclose(got[:, 0, :, 1].T, figure(2) - origin, atol=1e-6)
    assert not got[:, :11, :, 0].any()
    assert not got[:, 25:, :, 1].any()


def test_actor_1_always_at_the_origin_is_an_error() -> None:
    with pytest.raises(RawError, match="^all joints of the only body, or of the first actor, lie at the origin"):
        clip(film(20, (NOBODY, range(20))), 8)


def test_second_body_of_a_clip_of_one_body() -> None:
    alone = film(30, (figure(2), range(30)), (figure(1), range(11)))
    assert not clip(alone, 16)[..., 1].any()
    copied = clip(alone, 16, second_body="copy")
    np.testing.assert_array_equal(copied[..., 1], copied[..., 0])
    np.testing.assert_array_equal(copied[..., 0], clip(alone, 16)[..., 0])
    renamed = film(40, (figure(3), range(20)), (figure(2), range(20, 40)))  # one person under two ids
    np.testing.assert_array_equal(clip(renamed, 40, second_body="copy")[..., 1], clip(renamed, 40)[..., 0])
    pair = film(20, (figure(3), range(20)), (figure(2), range(20)))
    np.testing.assert_array_equal(clip(pair, 9, second_body="copy"), clip(pair, 9))


def test_slots_follow_the_number_of_bodies_stored() -> None:
    three = film(20, *[(figure(h), range(20)) for h in (1, 2, 3)])
    both = clip(three, 12)
    assert both.any(axis=(0, 1, 2)).tolist() == [True, True]
    np.testing.assert_array_equal(clip(three, 12, bodies=1), both[..., :1])
    np.testing.assert_array_equal(clip(three, 12, bodies=4), np.concatenate([both, np.zeros_like(both)], axis=-1))
