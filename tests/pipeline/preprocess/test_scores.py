"""Channel 3 of a clip: scores resized in time by numpy's interpolation, in every profile."""

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.preprocess import PROFILES, Policies, profile_writer
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import layout

COCO = layout("coco-17")
T, F = 9, 23


def walkers(bodies: int = 1, absent: slice = slice(0, 0)) -> Recording:
    """People who walk apart; the last one is absent in some frames."""
    rng = np.random.default_rng(3)
    xyz = rng.normal(size=(F, bodies, 17, 3)) * [1, 5, 1] + 0.2 * rng.normal(size=(F, bodies, 1, 3)).cumsum(axis=0)
    present = np.ones((F, bodies), bool)
    present[absent, -1] = False
    return Recording.in_slots(xyz, present, rng.random((F, bodies, 17)))


def resized(scores: np.ndarray, frames: int) -> np.ndarray:
    """[F,...] to [frames,...] by the formula of docs/profiles.md, with numpy's interpolation."""
    at = np.clip((np.arange(frames) + 0.5) * len(scores) / frames - 0.5, 0, len(scores) - 1)
    flat = scores.reshape(len(scores), -1)
    columns = [np.interp(at, np.arange(len(scores)), column) for column in flat.T]
    return np.stack(columns, axis=1).reshape(frames, *scores.shape[1:])


def written(name: str, recording: Recording, bodies: int, channels: int = 4, **policies: str) -> np.ndarray:
    out = np.full((channels, T, 17, bodies), np.nan, np.float32)
    profile_writer(name, policies=Policies(**policies))(recording, COCO, T, bodies, out)
    return out


@pytest.mark.parametrize("name", list(PROFILES))
def test_scores_are_resized_as_positions_are(name: str) -> None:
    recording = walkers()
    out = written(name, recording, 1)
    assert recording.scores is not None
    np.testing.assert_allclose(out[3, ..., 0], resized(recording.scores, T), atol=1e-6)
    np.testing.assert_array_equal(out[:3], written(name, recording, 1, channels=3))  # positions are those without


@pytest.mark.parametrize("name", list(PROFILES))
def test_the_score_of_an_absent_body_is_zero(name: str) -> None:
    recording = walkers(2, slice(0, 8))
    out = written(name, recording, 3)
    full = np.zeros((F, 2, 17))
    frame = np.repeat(np.arange(F), recording.counts)
    full[frame, recording.ids] = recording.scores
    expected = resized(full, T).transpose(0, 2, 1)
    if name == "ctrgcn" and np.abs(out[3, ..., 0] - expected[..., 0]).max() > 1e-3:
        expected = expected[..., ::-1]  # actor 1 is the body that moves more
    np.testing.assert_allclose(out[3, ..., :2], expected, atol=1e-6)
    assert not out[..., 2].any()


def test_scores_follow_the_policies() -> None:
    recording = walkers(1, slice(0, 10))
    assert recording.scores is not None
    dropped = written("crosclr", recording, 1, empty_frames="dropped")
    np.testing.assert_allclose(dropped[3, ..., 0], resized(recording.scores, T), atol=1e-6)
    held = written("crosclr", recording, 1, empty_frames="held")
    with_zeros = np.concatenate([np.zeros((10, 17)), recording.scores])
    np.testing.assert_allclose(held[3, ..., 0], resized(with_zeros, T), atol=1e-6)


@pytest.mark.parametrize("name", list(PROFILES))
def test_a_recording_without_scores_is_refused_where_they_are_declared(name: str) -> None:
    whole = walkers()
    with pytest.raises(RawError, match="channels name a score, and the file holds none"):
        written(name, Recording(whole.counts, whole.ids, whole.xyz), 1)
