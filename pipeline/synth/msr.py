"""MSR Action3D: a Kinect v1 looks at one person; every draw depends on the seed and the recording's own name."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from skelpipe.synth.camera import camera_view, seen_from
from skelpipe.synth.kinect import Track, observe
from skelpipe.synth.msr_names import MOTIONS, Clip
from skelpipe.synth.msr_text import skeleton_text
from skelpipe.synth.options import Options
from skelpipe.synth.people import subject
from skelpipe.synth.performance import perform
from skelpipe.synth.seeds import Draw, generator
from skelpipe.synth.store import Rendered, Take

__all__ = ["film", "takes"]

SETUP, CAMERA = 1, 1  # the middle camera
LOST = 0.04  # share of the recordings, at difficulty 1, in which the sensor loses the person, as in the real ones
LONGEST_LOSS = 0.25  # of the recording


def takes(options: Options, clips: Sequence[Clip]) -> list[Take]:
    """Return what there is to write: one take a recording."""
    return [Take((clip.file_name,), partial(_render, options, clip)) for clip in clips]


def film(options: Options, clip: Clip) -> Track:
    """Simulate one recording; return what the camera saw of the person, in metres in the camera's frame."""
    rng = generator(options.seed, Draw.PERFORMANCE, *_key(options, clip))
    person = subject(options.seed, clip.subject, options.difficulty)
    body = perform([person], MOTIONS[clip.action - 1], 0.0, options.frames, options.difficulty, rng)[0]
    rng = generator(options.seed, Draw.CAMERA, *_key(options, clip))
    view = camera_view(options.seed, SETUP, CAMERA, options.difficulty, rng)
    track = observe(seen_from(view, body), person.offsets, 0, options.difficulty, rng)
    if rng.random() < options.difficulty * LOST:
        _lose(track.present, rng)
    return track


def _lose(present: np.ndarray, rng: np.random.Generator) -> None:
    T = len(present)
    length = int(rng.integers(1, int(LONGEST_LOSS * T) + 1))
    first = int(rng.integers(0, T - length + 1))
    present[first : first + length] = False


def _render(options: Options, clip: Clip) -> Rendered:
    track = film(options, clip)
    text = skeleton_text(track, generator(options.seed, Draw.FILE, *_key(options, clip)))
    return Rendered({clip.file_name: text}, recordings=1, clips=1, frames=len(track.present))


def _key(options: Options, clip: Clip) -> tuple[int, ...]:
    return (options.number, clip.action, clip.subject, clip.replication)
