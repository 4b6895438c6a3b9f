"""Profile `ctrgcn` against a plain transcription of its steps, PyTorch's resizing, and real recordings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.errors import RawError
from skelpipe.preprocess.ctrgcn import ctrgcn, origin_joint
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import TextBuffer
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
FIRST_ID = 72057594037930000


class NobodyLeftError(Exception):
    pass


def naive_tracks(frames):
    """Step 1: id to {frame: joints}; frames without bodies do not count."""
    tracks = {}
    for t, frame in enumerate(frame for frame in frames if frame):
        for identity, joints in frame:
            tracks.setdefault(identity, {}).setdefault(t, np.asarray(joints, float))
    return tracks


def naive_motion(poses) -> float:
    return sum(np.concatenate(poses)[:, axis].var() for axis in range(3))


def naive_clean(tracks):
    """Steps 2.1 to 2.3: the bodies that stay, largest motion first."""
    tracks = {identity: track for identity, track in tracks.items() if len(track) > 11}
    if not tracks:
        raise NobodyLeftError
    motions = {}
    for identity in list(tracks):
        if len(tracks) == 1:
            break
        poses = list(tracks[identity].values())
        good = [pose for pose in poses if np.ptp(pose[:, 0]) <= 0.8 * np.ptp(pose[:, 1])]
        if (len(poses) - len(good)) / len(poses) >= 0.69754:
            del tracks[identity]
        else:
            motions[identity] = min(naive_motion(poses), naive_motion(good))
    if len(tracks) == 1:
        return list(tracks.values())
    return [tracks[identity] for identity in sorted(tracks, key=lambda identity: -motions[identity])]


def naive_actors(ranked):
    """Step 2.4: {frame: joints} of actor 1 and actor 2."""
    actors = [dict(ranked[0]), {}]
    spans = [(min(ranked[0]), max(ranked[0])), (0, 0)]
    for track in ranked[1:]:
        start, end = min(track), max(track)
        for slot in (0, 1):
            if min(spans[slot][1], end) - max(spans[slot][0], start) <= 0:
                actors[slot].update(track)
                spans[slot] = min(spans[slot][0], start), max(spans[slot][1], end)
                break
    return actors


def naive(frames, T: int, M: int, copy: bool = False, joint: int = 1) -> np.ndarray:
    """The steps of docs/profiles.md; raises NobodyLeftError if no body is left."""
    V = len(next(frame for frame in frames if frame)[0][1])
    tracks = naive_tracks(frames)
    actors = naive_actors(naive_clean(tracks) if len(tracks) > 1 else list(tracks.values()))
    L = sum(1 for frame in frames if frame)
    clip = np.zeros((L, 2, V, 3))
    for slot, actor in enumerate(actors):
        for t, joints in actor.items():
            clip[t, slot] = joints
    if len(tracks) > 1:
        clip = np.array([frame for frame in clip if np.any(frame != 0)]).reshape(-1, 2, V, 3)
    first = [t for t in range(len(clip)) if np.any(clip[t, 0] != 0)]
    if not first:
        raise NobodyLeftError
    origin = clip[first[0], 0, joint].copy()
    for t in range(len(clip)):
        for slot in (0, 1):
            if np.any(clip[t, slot] != 0):
                clip[t, slot] -= origin
    if copy and not np.any(clip[:, 1] != 0):
        clip[:, 1] = clip[:, 0]
    out = np.zeros((3, T, V, M))
    for t in range(T):
        s = min(max((t + 0.5) * len(clip) / T - 0.5, 0), len(clip) - 1)
        below = int(np.floor(s))
        above = min(below + 1, len(clip) - 1)
        pose = (1 - (s - below)) * clip[below] + (s - below) * clip[above]
        for m in range(min(M, 2)):
            out[:, t, :, m] = pose[m].T
    return out


def as_recording(frames, joints: int = 25) -> Recording:
    bodies = [body for frame in frames for body in frame]
    return Recording(
        np.array([len(frame) for frame in frames], np.int32),
        np.array([identity for identity, _ in bodies], np.int64),
        np.array([pose for _, pose in bodies]).reshape(-1, joints, 3),
    )


def prepared(frames, T: int = 32, M: int = 2, of: Layout = KINECT, **options) -> np.ndarray:
    out = np.full((3, T, len(of), M), np.nan, np.float32)
    ctrgcn(as_recording(frames, len(of)), of, T, M, out, **options)
    return out


class Crowd(list):
    """Frames of (id, pose), with a short text for failure reports."""

    def __repr__(self) -> str:
        listed = [[identity - FIRST_ID for identity, _ in frame] for frame in self]
        return f"<{len(self)} frames of bodies {listed}>"


@st.composite
def crowds(draw):
    """A recording of up to five bodies that come, go and return; some are noisy, some are listed at the origin."""
    L = draw(st.integers(1, 70))
    cuts = sorted({0, L, *draw(st.lists(st.integers(0, L), min_size=2, max_size=4))})
    frames = Crowd([] for _ in range(L))
    for body in range(draw(st.integers(1, 5))):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        size = draw(st.sampled_from([0.5, 1.0, 1.5]))
        rest = rng.normal(size=(25, 3)) * [0.15 * size, 0.4 * size, 0.2] + [rng.normal(), 0, 3]
        noisy = rng.random(L) < draw(st.sampled_from([0, 0, 0.3, 0.69, 0.8]))
        lost = rng.random(L) < draw(st.sampled_from([0, 0, 0.1, 1.0]))
        for _ in range(draw(st.integers(1, 2))):
            first = draw(st.sampled_from(cuts))
            last = min(draw(st.sampled_from(cuts)) + draw(st.integers(0, 1)), L)  # some touch in one frame
            for t in range(min(first, last), max(first, last)):
                pose = rest * [5 if noisy[t] else 1, 1, 1] + [0.01 * t, 0, 0] + rng.normal(size=(25, 3)) * 0.01
                if all(identity != FIRST_ID + body for identity, _ in frames[t]):
                    frames[t].insert(int(rng.integers(0, 2)), (FIRST_ID + body, pose * (not lost[t])))
    return frames


@settings(max_examples=300)
@given(crowds(), st.integers(1, 90), st.integers(1, 3), st.booleans())
def test_equals_the_naive_transcription(frames, T: int, M: int, copy: bool) -> None:
    options = {"second_body": "copy" if copy else "zeros"}
    if not any(frames):
        with pytest.raises(RawError, match="no body in any of its"):
            prepared(frames, T, M, **options)
        return
    try:
        expected = naive(frames, T, M, copy)
    except NobodyLeftError:
        with pytest.raises(RawError, match="no body is seen in more than 11 frames|lie at the origin"):
            prepared(frames, T, M, **options)
    else:
        got = prepared(frames, T, M, **options)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
        assert prepared(frames, T, M, **options).tobytes() == got.tobytes()


@pytest.mark.parametrize(("L", "T"), [(20, 50), (103, 64), (7, 1), (1, 4)])
def test_time_is_resized_as_pytorch_does_without_aligned_corners(moving_bodies, L: int, T: int) -> None:
    frames = moving_bodies(4, frames=L)
    poses = np.array([frame[0][1] for frame in frames])
    poses = torch.from_numpy(poses - poses[0, 1]).permute(1, 2, 0)  # [V,3,L]
    expected = torch.nn.functional.interpolate(poses, size=T, mode="linear", align_corners=False)
    np.testing.assert_allclose(prepared(frames, T)[..., 0], expected.permute(1, 2, 0), atol=1e-6)


def test_same_length_keeps_every_frame(moving_bodies) -> None:
    slim = np.array([0.2, 1, 1])  # a body wider than high would be removed as noisy
    frames = [[(key, pose * slim) for key, pose in frame] for frame in moving_bodies(2, frames=40, bodies=2)]
    got = prepared(frames, 40)
    poses = np.array([[pose for _, pose in frame] for frame in frames])  # [T,M,V,3]
    size = [poses[:, m].reshape(-1, 3).var(axis=0).sum() for m in (0, 1)]
    if size[1] > size[0]:
        poses = poses[:, ::-1]
    expected = (poses - poses[0, 0, 1]).astype(np.float32)
    np.testing.assert_array_equal(got, expected.transpose(3, 0, 2, 1))


def test_the_origin_is_the_spine_middle_the_spine_or_the_centre(moving_bodies) -> None:
    old_kinect = layout("msr-action3d-20")
    plain = replace(old_kinect, joints=tuple(f"joint {v}" for v in range(20)))
    assert [origin_joint(of) for of in (KINECT, old_kinect, plain)] == [1, 3, old_kinect.centre]
    frames = [[(0, pose[:20]) for _, pose in frame] for frame in moving_bodies(3, frames=15)]
    for of in (old_kinect, plain):
        got = prepared(frames, 10, of=of)
        np.testing.assert_allclose(got, naive(frames, 10, 2, joint=origin_joint(of)), atol=1e-6)


def test_writes_into_views_with_gaps_the_same_bytes(moving_bodies) -> None:
    """The clips of a shard are parts of a larger array."""
    frames = moving_bodies(6, frames=30, bodies=2)
    block = np.full((3, 16, 25, 5), np.nan, np.float32)
    ctrgcn(as_recording(frames), KINECT, 16, 2, block[..., 1:3])
    np.testing.assert_array_equal(block[..., 1:3], prepared(frames, 16))
    assert np.isnan(block[..., [0, 3, 4]]).all()


def unpacked(recording: Recording):
    rows = iter(zip(recording.ids.tolist(), recording.xyz, strict=True))
    return [[next(rows) for _ in range(count)] for count in recording.counts]


@pytest.mark.parametrize(("name", "people"), [("A001", 1), ("A003", 1), ("A050", 2)])
def test_real_recordings(shared: Path, name: str, people: int) -> None:
    path = shared / "data" / "ntu" / f"S001C001P001R001{name}.skeleton"
    recording = read_skeleton(TextBuffer().read(str(path)), name)
    frames = unpacked(recording)
    got = np.empty((3, recording.frames, 25, 2), np.float32)
    ctrgcn(recording, KINECT, recording.frames, 2, got)
    assert not got[:, 0, 1, 0].any()  # the spine's middle of actor 1 is where space begins
    assert [bool(got[:, t, :, m].any()) for t in (0, -1) for m in (0, 1)] == [True, people == 2] * 2
    np.testing.assert_allclose(got, naive(frames, recording.frames, 2), atol=1e-6)
    if people == 2:  # what lies between the two is theirs, whoever comes first
        (_, one), (_, other) = frames[0]
        np.testing.assert_allclose(np.abs(got[:, 0, 1, 1]), np.abs(one[1] - other[1]), atol=1e-6)
    np.testing.assert_allclose(prepared(frames, 64), naive(frames, 64, 2), atol=1e-6)
