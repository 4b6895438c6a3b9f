"""From a name to a recording: every draw depends on the seed and on the recording's own name alone."""

from dataclasses import dataclass

import numpy as np

from skelpipe.errors import UsageError
from skelpipe.manifest import load_manifest
from skelpipe.synth.actions import INTERACTIONS
from skelpipe.synth.body import Motion
from skelpipe.synth.camera import camera_view, seen_from
from skelpipe.synth.faults import Sighting, inject_faults, new_body_id
from skelpipe.synth.kinect import observe
from skelpipe.synth.names import CAMERAS, Performance
from skelpipe.synth.ntu_text import skeleton_text
from skelpipe.synth.performance import Subject, perform, subject
from skelpipe.synth.seeds import Draw, generator

__all__ = ["Options", "film", "recordings"]

FEWEST_FRAMES = 8
HARDEST = 3.0
CRLF_SHARE = 0.08  # of the files, at every difficulty: it is no matter of the recording
DATASET_NUMBERS = {"ntu60": 60, "ntu120": 120}  # part of the seed


@dataclass(frozen=True)
class Options:
    """What all recordings of a synthetic dataset share; `frames` is their mean length."""

    dataset: str
    seed: int = 0
    difficulty: float = 1.0
    frames: int = 80

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: seeds start at 0")
        if not 0 <= self.difficulty <= HARDEST:
            raise UsageError(f"--difficulty {self.difficulty}: it lies between 0 and {HARDEST:g}")
        if self.frames < FEWEST_FRAMES:
            raise UsageError(f"--frames {self.frames}: at least {FEWEST_FRAMES} are needed")

    @property
    def number(self) -> int:
        return DATASET_NUMBERS[self.dataset]


def film(options: Options, performance: Performance) -> dict[int, Sighting]:
    """Simulate one performance; return what each camera saw, in metres in that camera's frame."""
    rng = generator(options.seed, Draw.PERFORMANCE, *_key(options, performance))
    people = _people(options, performance, rng)
    bodies = perform(people, performance.action, performance.replication, options.frames, options.difficulty, rng)
    return {camera: _sighting(options, performance, camera, people, bodies) for camera in CAMERAS}


def recordings(options: Options, performance: Performance) -> dict[str, bytes]:
    """Return the content of a performance's files by file name, one a camera."""
    found = {}
    for camera, sighting in film(options, performance).items():
        rng = generator(options.seed, Draw.FILE, *_key(options, performance), camera)
        line_end = b"\r\n" if rng.random() < CRLF_SHARE else b"\n"
        found[performance.file_name(camera)] = skeleton_text(sighting, rng, line_end)
    return found


def _key(options: Options, performance: Performance) -> tuple[int, ...]:
    return (
        options.number,
        performance.setup,
        performance.subject,
        performance.replication,
        performance.action,
    )


def _people(options: Options, performance: Performance, rng: np.random.Generator) -> list[Subject]:
    """The performer, and for an interaction any other of the dataset's people."""
    actor = subject(options.seed, performance.subject, options.difficulty)
    if performance.action not in INTERACTIONS:
        return [actor]
    low, high = load_manifest(options.dataset).ranges["subject"]
    others = [number for number in range(low, high + 1) if number != performance.subject]
    return [actor, subject(options.seed, int(rng.choice(others)), options.difficulty)]


def _sighting(
    options: Options,
    performance: Performance,
    camera: int,
    people: list[Subject],
    bodies: list[Motion],
) -> Sighting:
    rng = generator(options.seed, Draw.CAMERA, *_key(options, performance), camera)
    view = camera_view(options.seed, performance.setup, camera, options.difficulty, rng)
    tracks = [
        observe(seen_from(view, body), person.offsets, new_body_id(slot, rng), options.difficulty, rng)
        for slot, (person, body) in enumerate(zip(people, bodies, strict=True))
    ]
    return inject_faults(tracks, options.difficulty, rng)
