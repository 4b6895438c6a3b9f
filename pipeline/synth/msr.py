"""Synthetic MSR Action3D: one person before a Kinect v1, written as text of 20 lines per frame.

Every draw depends only on the seed and on the name of the recording.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from skelpipe.synth.camera import camera_pose, seen_from
from skelpipe.synth.kinect import TRACKED, Track, observe
from skelpipe.synth.kinect_v1 import joints_of
from skelpipe.synth.msr_names import MOTIONS, Clip
from skelpipe.synth.options import SynthOptions
from skelpipe.synth.people import subject
from skelpipe.synth.performance import perform
from skelpipe.synth.seeds import Draw, generator
from skelpipe.synth.store import Rendered, RenderJob

__all__ = ["film", "render_jobs"]

SETUP, CAMERA = 1, 1  # the middle camera
LOST = 0.04  # share of recordings, at difficulty 1, in which the sensor loses the person
LONGEST_LOSS = 0.25  # of the recording
LAYOUT = "msr-action3d-20"
ROW = b"%.6f %.6f %.6f %.6f\n"


def render_jobs(options: SynthOptions, clips: Sequence[Clip]) -> list[RenderJob]:
    """Return one job per recording."""
    return [RenderJob((clip.file_name,), partial(_render, options, clip)) for clip in clips]


def film(options: SynthOptions, clip: Clip) -> Track:
    """Simulate one recording; return what the camera saw of the person, in metres, camera coordinates."""
    rng = generator(options.seed, Draw.PERFORMANCE, *_key(options, clip))
    person = subject(options.seed, clip.subject, options.difficulty)
    body = perform([person], MOTIONS[clip.action - 1], 0.0, options.frames, options.difficulty, rng)[0]
    rng = generator(options.seed, Draw.CAMERA, *_key(options, clip))
    pose = camera_pose(options.seed, SETUP, CAMERA, options.difficulty, rng)
    track = observe(seen_from(pose, body), person.offsets, 0, options.difficulty, rng)
    if rng.random() < options.difficulty * LOST:
        _lose(track.present, rng)
    return track


def _lose(present: np.ndarray, rng: np.random.Generator) -> None:
    T = len(present)
    length = int(rng.integers(1, int(LONGEST_LOSS * T) + 1))
    first = int(rng.integers(0, T - length + 1))
    present[first : first + length] = False


def _render(options: SynthOptions, clip: Clip) -> Rendered:
    track = film(options, clip)
    text = skeleton_text(track, generator(options.seed, Draw.FILE, *_key(options, clip)))
    return Rendered({clip.file_name: text}, recordings=1, clips=1, frames=len(track.present))


def _key(options: SynthOptions, clip: Clip) -> tuple[int, ...]:
    return (options.number, clip.action, clip.subject, clip.replication)


def skeleton_text(track: Track, rng: np.random.Generator) -> bytes:
    """Return the text of a file, `x y z confidence` per line; `rng` draws the confidence of inferred joints.

    Frames in which the sensor loses the person are zeros.
    """
    chosen = joints_of(LAYOUT)
    guess = np.maximum(rng.uniform(-1, 1, (len(track.present), len(chosen))), 0)
    confidence = np.where(track.state[:, chosen] == TRACKED, 1.0, guess)
    values = np.concatenate([track.xyz[:, chosen], confidence[..., None]], axis=-1)  # [T,20,4]
    values[~track.present] = 0
    return b"".join(ROW % tuple(row) for row in values.reshape(-1, 4).tolist())
