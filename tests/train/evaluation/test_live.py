"""Predictions of sliding windows while frames come in, against predictions of recordings cut by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skelpipe.errors import RawError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.models import build_encoder
from skelpipe.preprocess import profile_writer
from skelpipe.raw.recording import Recording
from skelpipe.train.evaluation.live import FrameBuffer, LiveRecogniser
from skelpipe.train.evaluation.recogniser import Recogniser

V = 25


@pytest.fixture(scope="module")
def recogniser() -> Callable[[str], Recogniser]:
    """A maker of a classifier of clips of ten frames, by the profile's name."""
    manifest = load_manifest("ntu60")
    torch.manual_seed(3)
    encoder = build_encoder({"name": "stgcn", "width": 2, "out_channels": 8}, manifest.layout)
    encoder.blocks = nn.ModuleList(encoder.blocks[n] for n in (0, 4, 7, 9))
    network = nn.Sequential(encoder, nn.Linear(8, 60)).eval()

    def make(profile: str) -> Recogniser:
        return Recogniser(
            Path("c.safetensors"),
            nn.ModuleDict({"joint": network}),
            manifest.classes,
            manifest,
            profile,
            profile_writer(profile),
            10,
            2,
            "float32",
        )

    return make


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Frames of no, one, two and three bodies; the tracker's ids change."""
    draws = np.random.default_rng(5)
    counts = np.array([1, 1, 2, 2, 3, 2, 1, 0, 0, 1, 2, 2, 2, 1, 1, 1, 2, 3, 2, 2, 1, 1, 1], np.int32)
    ids = np.concatenate([np.arange(n) + 100 + 10 * (frame > 9) for frame, n in enumerate(counts)])
    wander = draws.normal(size=(len(ids), V, 3)).cumsum(axis=0) * 0.05
    return Recording(counts, ids, wander + draws.normal(size=(1, V, 3)))


def of_cut(recogniser: Recogniser, recording: Recording, first: int, last: int) -> list[tuple[int, float]]:
    """The likeliest classes and their probabilities of the frames `first` to `last`, from 1, cut by hand."""
    clip = np.empty((1, 3, 10, V, 2), np.float32)
    try:
        recogniser.write(recording.cut(first - 1, last), recogniser.manifest.layout, 10, 2, clip[0])
    except RawError:  # the profile takes a body that is seen for less than a dozen frames for noise
        return []
    row = torch.softmax(recogniser.scores(torch.from_numpy(clip)).double(), dim=1)[0].numpy()
    return [(int(label) + 1, float(row[label])) for label in np.argsort(-row, kind="stable")[:5]]


def numbers(top: list[dict]) -> list[tuple[int, float]]:
    return [(each["action"], each["probability"]) for each in top]


@pytest.mark.parametrize("profile", ["crosclr", "ctrgcn"])
@pytest.mark.parametrize(
    ("window", "stride", "spans"),
    [
        (14, 4, [(1, 14), (5, 18), (9, 22), (10, 23)]),  # the last window ends with the input
        (5, 6, [(1, 5), (7, 11), (13, 17), (19, 23)]),  # which needs no other window; some frames are in none
        (23, 1, [(1, 23)]),
        (40, 3, [(1, 23)]),
    ],
)
def test_every_window_is_predicted_as_a_recording_of_its_frames(
    recogniser: Callable[[str], Recogniser],
    recording: Recording,
    profile: str,
    window: int,
    stride: int,
    spans: list[tuple[int, int]],
) -> None:
    model = recogniser(profile)
    live = LiveRecogniser(model, window, stride, fps=2)
    for _ in range(2):  # a second input starts anew
        found = [*live.push_recording(recording)]
        if (last := live.finish()) is not None:
            found.append(last)
        assert [(each.first, each.last) for each in found] == spans
        assert [each.short for each in found] == [window == 40] * len(spans)
        assert [each.seconds for each in found] == [((a - 1) / 2, b / 2) for a, b in spans]
        for each in found:
            assert numbers(each.top) == of_cut(model, recording, each.first, each.last)
            assert bool(each.top) != bool(each.why)
        assert any(each.top for each in found) or window < 12


def test_frames_as_arrays_give_the_same(recogniser: Callable[[str], Recogniser], recording: Recording) -> None:
    """One call per frame; each prediction comes with the frame that completes its window."""
    live = LiveRecogniser(recogniser("crosclr"), 8, 4)
    whole = [*live.push_recording(recording), live.finish()]
    stops = np.cumsum(recording.counts)
    frames = [recording.xyz[b - n : b] if n else None for b, n in zip(stops, recording.counts, strict=True)]
    assert [*live.over(frames)] == whole
    came = {}
    for number, frame in enumerate(frames, 1):
        if (found := live.push(frame)) is not None:
            came[number] = found
    assert came == {each.last: each for each in whole[:-1] if each}


def test_windows_in_which_nobody_is_seen_have_no_action(recogniser: Callable[[str], Recogniser]) -> None:
    live = LiveRecogniser(recogniser("crosclr"), 4, 4)
    body = np.random.default_rng(0).normal(size=(1, V, 3))
    found = [*live.over([None] * 4 + [np.zeros((1, V, 3))] * 4 + [body] * 4)]
    assert [len(each.top) for each in found] == [0, 0, 5]
    assert live.finish() is None


def test_the_buffer_holds_the_last_frames_only() -> None:
    buffer = FrameBuffer(4, V, 1, scored=True)
    draws = np.random.default_rng(1)
    frames = [draws.normal(size=(n, V, 4)) for n in (1, 0, 2, 1, 1, 3, 0, 1, 1)]  # more bodies than were reserved
    reserved = buffer._xyz.shape[0]
    for number, frame in enumerate(frames, 1):
        buffer.push(frame[..., :3], np.arange(len(frame)) + number, frame[..., 3])
        for length in range(1, min(number, 4) + 1):
            kept = frames[number - length : number]
            found = buffer.last(length)
            assert found.counts.tolist() == [len(each) for each in kept]
            np.testing.assert_array_equal(found.xyz, np.concatenate(kept)[..., :3])
            np.testing.assert_array_equal(found.scores, np.concatenate(kept)[..., 3])
            firsts = range(number - length + 1, number + 1)
            assert found.ids.tolist() == [
                n + b for n, each in zip(firsts, kept, strict=True) for b in range(len(each))
            ]
    assert buffer._xyz.shape[0] == reserved


def test_flat_frames_have_no_depth(recogniser: Callable[[str], Recogniser]) -> None:
    live = LiveRecogniser(recogniser("crosclr"), 4, 4)
    solid = np.random.default_rng(8).normal(size=(4, 2, V, 3)) * [1, 1, 0]
    assert [*live.over(solid)] == [*live.over(solid[..., :2])] != []


def test_what_is_no_frame_is_refused(recogniser: Callable[[str], Recogniser]) -> None:
    live = LiveRecogniser(recogniser("crosclr"), 2, 1)
    with pytest.raises(UsageError, match=r"shape \[25, 3\]; expected \[M,25,3\] of kinect-v2-25, or \[M,25,2\]"):
        live.push(np.zeros((V, 3)))
    with pytest.raises(UsageError, match="1 bodies have ids of shape"):
        live.push(np.zeros((1, V, 3)), np.zeros(2, np.int64))
    with pytest.raises(UsageError, match="a frame is an array of positions, or None, not 'x'"):
        live.push("x")  # type: ignore[arg-type]
    hidden = np.ones((1, V, 3))
    hidden[0, 3] = np.nan
    live.push(np.ones((1, V, 3)))
    found = live.push(hidden)  # the stream goes on
    assert found is not None
    assert found.top == []
    assert "is missing" in found.why or "not found" in found.why


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 0}, "stride is 0; it must be a whole number, at least 1"),
        ({"window": "8"}, "window is '8'; it must be a whole number"),
        ({"window": 8.0}, "window is 8.0; it must be a whole number"),
        ({"fps": 0}, "fps is 0; it must be a number above 0"),
        ({"fps": "30"}, "fps is '30'; it must be a number above 0"),
        ({"fps": float("nan")}, "fps is nan; it must be a number above 0"),
    ],
)
def test_what_is_no_window_is_refused(
    recogniser: Callable[[str], Recogniser], settings: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        LiveRecogniser(recogniser("crosclr"), **settings)


def test_printed_it_tells_its_windows(recogniser: Callable[[str], Recogniser]) -> None:
    live = LiveRecogniser(recogniser("crosclr"), 8, fps=30)
    live.push(None)
    wanted = (
        "<LiveRecogniser: windows of 8 frames, stride 2, 30 frames per second, frames [M,25,3] of kinect-v2-25"
    )
    assert repr(live) == f"{wanted}, 1 taken, on cpu>"
