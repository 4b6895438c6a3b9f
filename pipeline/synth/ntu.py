"""NTU RGB+D: three cameras record a performance; every draw depends on the seed and the recording's own name."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from skelpipe.manifest_file import load_manifest
from skelpipe.synth.actions import INTERACTIONS
from skelpipe.synth.body import Motion
from skelpipe.synth.camera import camera_view, seen_from
from skelpipe.synth.faults import Sighting, inject_faults, new_body_id
from skelpipe.synth.kinect import observe
from skelpipe.synth.ntu_names import CAMERAS, Performance
from skelpipe.synth.ntu_text import skeleton_text
from skelpipe.synth.options import Options
from skelpipe.synth.people import Subject, subject
from skelpipe.synth.performance import perform
from skelpipe.synth.seeds import Draw, generator
from skelpipe.synth.store import Rendered, Take

__all__ = ["film", "recordings", "takes"]

CRLF_SHARE = 0.08  # of the files, at every difficulty: it is no matter of the recording
FACING = 0.45  # radians towards the left or the right camera, by replication


def takes(options: Options, performances: Sequence[Performance]) -> list[Take]:
    """Return what there is to write: one take a performance."""
    return [
        Take(tuple(p.file_name(camera) for camera in CAMERAS), partial(_render, options, p)) for p in performances
    ]


def film(options: Options, performance: Performance) -> dict[int, Sighting]:
    """Simulate one performance; return what each camera saw, in metres in that camera's frame."""
    rng = generator(options.seed, Draw.PERFORMANCE, *_key(options, performance))
    people = _people(options, performance, rng)
    towards = FACING if performance.replication % 2 else -FACING
    bodies = perform(people, performance.action, towards, options.frames, options.difficulty, rng)
    return {camera: _sighting(options, performance, camera, people, bodies) for camera in CAMERAS}


def recordings(options: Options, performance: Performance) -> dict[str, bytes]:
    """Return the content of a performance's files by file name, one a camera."""
    return _render(options, performance).files


def _render(options: Options, performance: Performance) -> Rendered:
    files = {}
    sightings = film(options, performance)
    for camera, sighting in sightings.items():
        rng = generator(options.seed, Draw.FILE, *_key(options, performance), camera)
        line_end = b"\r\n" if rng.random() < CRLF_SHARE else b"\n"
        files[performance.file_name(camera)] = skeleton_text(sighting, rng, line_end)
    frames = sum(sighting.frames for sighting in sightings.values())
    return Rendered(files, recordings=len(files), clips=len(files), frames=frames)


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
