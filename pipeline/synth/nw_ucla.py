"""Synthetic Northwestern-UCLA: three cameras, each a Kinect v1, record a performance; one JSON file per camera.

Every draw depends only on the seed and on the name of the recording.
"""

import json
from collections.abc import Sequence
from functools import partial

import numpy as np

from skelpipe.synth.camera import camera_pose, seen_from
from skelpipe.synth.kinect import observe
from skelpipe.synth.kinect_v1 import joints_of
from skelpipe.synth.nw_ucla_names import CAMERAS, MOTIONS, Take
from skelpipe.synth.options import SynthOptions
from skelpipe.synth.people import subject
from skelpipe.synth.performance import perform
from skelpipe.synth.seeds import Draw, generator
from skelpipe.synth.store import Rendered, RenderJob

__all__ = ["film", "render_jobs"]

SETUP = 1  # the cameras stay where they are
LAYOUT = "kinect-v1-20"
DECIMALS = 6


def render_jobs(options: SynthOptions, takes: Sequence[Take]) -> list[RenderJob]:
    """Return one job per performance."""
    return [
        RenderJob(tuple(take.file_name(camera) for camera in CAMERAS), partial(_render, options, take))
        for take in takes
    ]


def film(options: SynthOptions, take: Take) -> dict[int, np.ndarray]:
    """Simulate one performance; return joints [T,20,3] as each camera saw them, in metres, camera coordinates."""
    rng = generator(options.seed, Draw.PERFORMANCE, *_key(options, take))
    person = subject(options.seed, take.subject, options.difficulty)
    body = perform([person], MOTIONS[take.action], 0.0, options.frames, options.difficulty, rng)[0]
    seen = {}
    for camera in CAMERAS:
        rng = generator(options.seed, Draw.CAMERA, *_key(options, take), camera)
        pose = camera_pose(options.seed, SETUP, camera, options.difficulty, rng)
        track = observe(seen_from(pose, body), person.offsets, 0, options.difficulty, rng)
        seen[camera] = track.xyz[:, joints_of(LAYOUT)]
    return seen


def _render(options: SynthOptions, take: Take) -> Rendered:
    seen = film(options, take)
    files = {}
    for camera, xyz in seen.items():
        skeletons = xyz.round(DECIMALS).tolist()
        label = list(MOTIONS).index(take.action) + 1  # without gaps, as in the real files
        content = {"file_name": take.identity(camera), "skeletons": skeletons, "label": label}
        files[take.file_name(camera)] = json.dumps(content).encode()
    return Rendered(files, recordings=len(seen), clips=len(seen), frames=sum(map(len, seen.values())))


def _key(options: SynthOptions, take: Take) -> tuple[int, ...]:
    return (options.number, take.action, take.subject, take.replication)
