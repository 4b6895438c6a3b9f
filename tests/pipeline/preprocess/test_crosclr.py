"""Profile `crosclr` against a naive float64 transcription of its steps, and against the released arrays."""

import math
from pathlib import Path

import numpy as np
import pytest

from skelpipe.preprocess import crosclr
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import TextBuffer
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


def as_recording(frames) -> Recording:
    bodies = [body for frame in frames for body in frame]
    return Recording(
        np.array([len(frame) for frame in frames], np.int32),
        np.array([identity for identity, _ in bodies], np.int64),
        np.array([joints for _, joints in bodies]).reshape(-1, 25, 3),
    )


def naive(frames, T: int, M: int) -> np.ndarray:
    """The steps of docs/profiles.md, one number at a time."""
    length = sum(1 for frame in frames if frame and sum(abs(value) for value in frame[0][1][0]) != 0)
    out = np.zeros((3, T, 25, M))
    if length == 0:
        return out
    for m in range(M):
        centred = np.zeros((len(frames), 25, 3))
        for f, frame in enumerate(frames):
            if m < len(frame):
                joints = np.asarray(frame[m][1], float)
                for v in range(25):
                    centred[f, v] = joints[v] - joints[20]
        resized = np.zeros((T, 25, 3))
        for t in range(T):
            s = min(max((t + 0.5) * length / T - 0.5, 0), length - 1)
            below = math.floor(s)
            above = min(below + 1, length - 1)
            resized[t] = centred[below] + (s - below) * (centred[above] - centred[below])
        depth = sum(resized[t, 8, 2] - resized[t, 4, 2] for t in range(T))
        for t in range(T):
            dx, dz = (resized[t, 8] - resized[t, 4])[[0, 2]]
            th = math.acos(dx / (math.hypot(dx, dz) + 1e-4))
            th = -th if depth >= 0 else th
            rotation = np.array([[math.cos(th), 0, -math.sin(th)], [0, 1, 0], [math.sin(th), 0, math.cos(th)]])
            for v in range(25):
                out[:, t, v, m] = rotation @ resized[t, v]
    return out


def prepared(frames, T: int, M: int) -> np.ndarray:
    out = np.full((3, T, 25, M), np.nan, np.float32)
    crosclr(as_recording(frames), KINECT, T, M, out)
    return out


@pytest.mark.parametrize(("L", "T"), [(20, 50), (103, 64), (50, 50), (1, 8), (2, 3)])
@pytest.mark.parametrize("M", [1, 2])
def test_equals_the_naive_transcription(moving_bodies, L: int, T: int, M: int) -> None:
    for seed in range(3):
        frames = moving_bodies(seed, frames=L, bodies=2)
        np.testing.assert_allclose(prepared(frames, T, M), naive(frames, T, M), atol=2e-6)


def test_bodies_that_come_and_go_equal_the_naive_transcription(moving_bodies) -> None:
    frames = moving_bodies(5, frames=30, bodies=3)
    frames[0], frames[7], frames[8] = frames[0][:1], [], frames[8][1:]
    frames[20] = [(7, np.vstack([np.zeros(3), frames[20][0][1][1:]]))]  # joint 0 at the origin: not counted
    np.testing.assert_allclose(prepared(frames, 24, 2), naive(frames, 24, 2), atol=2e-6)


def test_recordings_without_bodies_give_zeros() -> None:
    assert not prepared([[], [], []], 8, 2).any()


def test_shoulders_lie_on_x_and_the_centre_at_the_origin(moving_bodies) -> None:
    clip = prepared(moving_bodies(3, frames=40, bodies=2), 50, 2)
    assert not clip[:, :, 20].any()
    shoulders = clip[:, :, 8] - clip[:, :, 4]  # [3,T,M], right minus left
    # A frame whose shoulder depth disagrees in sign with the clip's sum is turned the wrong way (divergence
    # `view-alignment-sign`).
    flat = np.hypot(shoulders[0], shoulders[2])
    assert np.all(np.sum(np.abs(shoulders[2]) < 2e-2 * flat, axis=0) > 40)


def test_empty_second_body_stays_zero(moving_bodies) -> None:
    assert not prepared(moving_bodies(1), 16, 2)[..., 1].any()


def test_same_length_is_not_resampled(moving_bodies) -> None:
    """With L = T the source position is s = i: heights are those of the recording minus that of the centre."""
    frames = moving_bodies(2, frames=50)
    heights = np.array([body[0][1][:, 1] - body[0][1][20, 1] for body in frames])
    np.testing.assert_allclose(prepared(frames, 50, 1)[1, :, :, 0], heights, atol=1e-6)


def test_equals_the_released_arrays(shared: Path) -> None:
    golden = np.load(shared / "facts" / "golden_ntu.npz")
    for name, expected in zip(golden["names"], golden["clip"], strict=True):
        path = shared / "data" / "ntu" / f"{name}.skeleton"
        recording = read_skeleton(TextBuffer().read(str(path)), str(name))
        got = np.empty((3, 50, 25, 2), np.float32)
        crosclr(recording, KINECT, 50, 2, got)
        np.testing.assert_allclose(got, expected, atol=1e-4)
