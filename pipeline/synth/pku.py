"""Synthetic PKU-MMD: three cameras film untrimmed videos; label files list the actions and their frames.

Every draw depends only on the seed and on the name of the video, or on the number of the person.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from skelpipe.synth.body import Motion
from skelpipe.synth.camera import camera_pose, seen_from
from skelpipe.synth.faults import Sighting, inject_faults
from skelpipe.synth.kinect import observe
from skelpipe.synth.options import SynthOptions
from skelpipe.synth.people import Subject, subject
from skelpipe.synth.pku_names import MOTIONS, SUBJECTS, VIEWS, VideoName
from skelpipe.synth.pku_text import label_text, skeleton_text, split_text
from skelpipe.synth.seeds import Draw, generator
from skelpipe.synth.session import Session, hold_session
from skelpipe.synth.store import Rendered, RenderJob

__all__ = ["film", "label_rows", "render_jobs"]

SPLIT_FILES = {  # cross-subject, cross-view
    "pkummd1": ("cross-subject.txt", "cross-view.txt"),
    "pkummd2": ("cross_subject_v2.txt", "cross_view_v2.txt"),
}
TEST_VIEW = "L"
SURE = 0.8  # share of label rows with the higher confidence, at every difficulty
OVERLAP, LONGEST_OVERLAP = 0.04, 4  # share of videos with rows that overlap, at difficulty 1; frames
BEYOND, FURTHEST = 0.04, 2  # the same for videos with a row that ends after the video


def render_jobs(options: SynthOptions, videos: Sequence[VideoName]) -> list[RenderJob]:
    """Return the jobs: one for the split files, then one per video."""
    splits = _split_files(options, videos)
    found = [RenderJob(tuple(splits), partial(Rendered, splits, recordings=0, clips=0, frames=0))]
    for video in videos:
        names = [video.identity(view) for view in VIEWS]
        paths = [f"{folder}/{name}.txt" for name in names for folder in ("skeleton", "label")]
        found.append(RenderJob(tuple(paths), partial(_render, options, video)))
    return found


def film(options: SynthOptions, video: VideoName) -> tuple[Session, dict[str, list[Sighting]]]:
    """Simulate one video; return the session in the room, and what the camera of each view saw.

    A camera sees the session in parts of about the length of one recording; in each part sensor faults are as
    frequent as in one recording.
    """
    rng = generator(options.seed, Draw.PERFORMANCE, *_key(options, video))
    others = [number for number in range(1, SUBJECTS[options.dataset] + 1) if number != video.subject]
    people = [
        subject(options.seed, number, options.difficulty) for number in (video.subject, int(rng.choice(others)))
    ]
    motions = [MOTIONS[label - 1] for label in video.classes]
    session = hold_session(people, motions, options.frames, options.difficulty, rng)
    return session, {view: _sightings(options, video, view, people, session) for view in VIEWS}


def label_rows(
    options: SynthOptions, video: VideoName, spans: Sequence[tuple[int, int]], frames: int
) -> list[tuple[int, int, int, int]]:
    """Return class, first and last frame (from 1, inclusive) and confidence of each performance, faults included.

    `spans` are those of the session, `frames` is the length of the video. Above difficulty 0 a row may end a few
    frames after the next one begins, or after the video.
    """
    rng = generator(options.seed, Draw.LABEL, *_key(options, video))
    ends = [end for _, end in spans]
    confidence = 1 + (rng.random(len(ends)) < SURE)
    overlap, beyond = rng.random(2) < options.difficulty * np.array([OVERLAP, BEYOND])
    if overlap and len(ends) > 1:
        late = int(rng.integers(len(ends) - 1))
        ends[late] = spans[late + 1][0] + int(rng.integers(1, LONGEST_OVERLAP + 1))
    if beyond:
        ends[-1] = frames + int(rng.integers(1, FURTHEST + 1))
    firsts = [first + 1 for first, _ in spans]
    return list(zip(video.classes, firsts, ends, confidence.tolist(), strict=True))


def _render(options: SynthOptions, video: VideoName) -> Rendered:
    session, seen = film(options, video)
    T = len(session.present)
    rows = label_rows(options, video, session.spans, T)
    files = {}
    for view, sightings in seen.items():
        name = f"{video.identity(view)}.txt"
        files[f"skeleton/{name}"] = skeleton_text(sightings)
        files[f"label/{name}"] = label_text(rows)
    return Rendered(files, recordings=len(seen), clips=len(seen) * len(rows), frames=len(seen) * T)


def _split_files(options: SynthOptions, videos: Sequence[VideoName]) -> dict[str, bytes]:
    tested = {
        video.identity(view): (video.subset == "test", view == TEST_VIEW) for video in videos for view in VIEWS
    }
    files = {}
    for split, name in enumerate(SPLIT_FILES[options.dataset]):
        train = [identity for identity in tested if not tested[identity][split]]
        test = [identity for identity in tested if tested[identity][split]]
        files[f"split/{name}"] = split_text(train, test)
    return files


def _key(options: SynthOptions, video: VideoName) -> tuple[int, ...]:
    return (options.number, *video.key)


def _sightings(
    options: SynthOptions, video: VideoName, view: str, people: Sequence[Subject], session: Session
) -> list[Sighting]:
    camera = VIEWS[view]
    rng = generator(options.seed, Draw.CAMERA, *_key(options, video), camera)
    pose = camera_pose(options.seed, video.setup, camera, options.difficulty, rng)
    T = len(session.present)
    edges = np.linspace(0, T, max(round(T / options.frames), 1) + 1).round().astype(int).tolist()
    seen = []
    for first, end in pairwise(edges):
        part = slice(first, end)
        bodies = [(people[0], session.actor, np.ones(T, bool))]
        if session.partner is not None and session.present[part].any():
            bodies.append((people[1], session.partner, session.present))
        tracks = []
        for person, body, present in bodies:
            seen_body = seen_from(pose, Motion(body.positions[part], body.rotations[part]))
            track = observe(seen_body, person.offsets, 0, options.difficulty, rng)
            tracks.append(replace(track, present=present[part]))
        seen.append(inject_faults(tracks, options.difficulty, rng))
    return seen
