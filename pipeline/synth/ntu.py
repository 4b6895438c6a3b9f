"""Synthetic NTU RGB+D: three cameras record a performance.

Every draw depends only on the seed and on the name of the recording.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from skelpipe.manifest_file import load_manifest
from skelpipe.synth.actions import INTERACTIONS
from skelpipe.synth.body import Motion
from skelpipe.synth.camera import camera_pose, seen_from
from skelpipe.synth.faults import Sighting, inject_faults, new_body_id
from skelpipe.synth.kinect import observe
from skelpipe.synth.ntu_names import CAMERAS, Performance
from skelpipe.synth.ntu_text import skeleton_text
from skelpipe.synth.options import SynthOptions
from skelpipe.synth.people import Subject, subject
from skelpipe.synth.performance import perform
from skelpipe.synth.seeds import Draw, generator
from skelpipe.synth.store import Rendered, RenderJob

__all__ = ["film", "recordings", "render_jobs"]

CRLF_SHARE = 0.08  # share of files with CRLF line ends, at every difficulty
FACING = 0.45  # radians towards the left or the right camera, by replication


def render_jobs(options: SynthOptions, performances: Sequence[Performance]) -> list[RenderJob]:
    """Return one job per performance."""
    return [
        RenderJob(tuple(p.file_name(camera) for camera in CAMERAS), partial(_render, options, p))
        for p in performances
    ]


def film(options: SynthOptions, performance: Performance) -> dict[int, Sighting]:
    """Simulate one performance; return what each camera saw, in metres in that camera's coordinate frame."""
    rng = generator(options.seed, Draw.PERFORMANCE, *_key(options, performance))
    people = _people(options, performance, rng)
    towards = FACING if performance.replication % 2 else -FACING
    bodies = perform(people, performance.action, towards, options.frames, options.difficulty, rng)
    return {camera: _sighting(options, performance, camera, people, bodies) for camera in CAMERAS}


def recordings(options: SynthOptions, performance: Performance) -> dict[str, bytes]:
    """Return the content of a performance's files by file name, one file per camera."""
    return _render(options, performance).files


def _render(options: SynthOptions, performance: Performance) -> Rendered:
    files = {}
    sightings = film(options, performance)
    for camera, sighting in sightings.items():
        rng = generator(options.seed, Draw.FILE, *_key(options, performance), camera)
        line_end = b"\r\n" if rng.random() < CRLF_SHARE else b"\n"
        files[performance.file_name(camera)] = skeleton_text(sighting, rng, line_end)
    frames = sum(sighting.frames for sighting in sightings.values())
    return Rendered(files, recordings=len(files), clips=len(files), frames=frames)


def _key(options: SynthOptions, performance: Performance) -> tuple[int, ...]:
    return (
        options.number,
        performance.setup,
        performance.subject,
        performance.replication,
        performance.action,
    )


def _people(options: SynthOptions, performance: Performance, rng: np.random.Generator) -> list[Subject]:
    """The performing subject, and for an interaction another subject of the dataset, drawn."""
    actor = subject(options.seed, performance.subject, options.difficulty)
    if performance.action not in INTERACTIONS:
        return [actor]
    low, high = load_manifest(options.dataset).ranges["subject"]
    others = [number for number in range(low, high + 1) if number != performance.subject]
    return [actor, subject(options.seed, int(rng.choice(others)), options.difficulty)]


def _sighting(
    options: SynthOptions,
    performance: Performance,
    camera: int,
    people: list[Subject],
    bodies: list[Motion],
) -> Sighting:
    rng = generator(options.seed, Draw.CAMERA, *_key(options, performance), camera)
    pose = camera_pose(options.seed, performance.setup, camera, options.difficulty, rng)
    tracks = [
        observe(seen_from(pose, body), person.offsets, new_body_id(slot, rng), options.difficulty, rng)
        for slot, (person, body) in enumerate(zip(people, bodies, strict=True))
    ]
    return inject_faults(tracks, options.difficulty, rng)
