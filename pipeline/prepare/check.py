"""`prepare --check`: what is known of raw recordings after a look at a few of them, before any work.

`CHECKS` is the list of what is looked for. A check takes a `Look` and returns sentences, each a warning that says
what was found and what to write or do; it never refuses. To add one, write such a function and list it there.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.errors import RawError, SkelpipeError
from skelpipe.manifest import Manifest
from skelpipe.prepare.clips import ClipReader, looks_like_score
from skelpipe.prepare.completeness import score_warning
from skelpipe.prepare.plan import Plan, Sample
from skelpipe.prepare.plausibility import origin_joints
from skelpipe.prepare.run import Options, clip_shape, survey
from skelpipe.raw.plausible import implausible, longest_track
from skelpipe.raw.readers import FIXED_CHANNELS, RecordingReader
from skelpipe.raw.recording import Recording

__all__ = ["CHECKS", "Look", "check_report", "look"]

RECORDINGS = 8  # that are read, spread over all
AXES = "xyz"
TALL = {"metres": (0.3, 3.5), "centimetres": (30, 350), "millimetres": (300, 3500)}  # heights of a body
UNIT_PICTURE = "0..1 of the picture"
FEWEST_PIXELS = 10  # height of a body


@dataclass
class Look:
    """What was seen of a dataset: its plan, and some recordings, read as `prepare` reads them."""

    manifest: Manifest
    plan: Plan
    recordings: list[tuple[Sample, Recording]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # why recordings would be dropped, or would end `prepare`

    @property
    def tracks(self) -> list[np.ndarray]:
        """The poses [F,V,3] of the body that is there in most frames, one for each recording."""
        return [longest_track(recording) for _, recording in self.recordings]


def look(manifest: Manifest, raw: Sequence[str | Path], options: Options) -> Look:
    """Plan as `prepare --on-error skip` would, and read a few recordings, spread over all; write nothing.

    Raises SkelpipeError where none of them can be read.
    """
    seen = Look(manifest, survey(manifest, raw, options, skip_bad=True))
    options = options.resolved(manifest)
    reader = RecordingReader(manifest, options.bodies)
    how = (options.dtype, options.profile, options.second_body, options.policies)
    clips = ClipReader(manifest, clip_shape(manifest, options), *how, skip_bad=True)
    whole = list({sample.file: sample for sample in seen.plan.samples}.values())
    step = max(len(whole) / RECORDINGS, 1)
    for sample in (whole[int(number * step)] for number in range(min(len(whole), RECORDINGS))):
        try:
            recording = reader.read(sample.file)
        except RawError as error:
            seen.refused.append(str(error))
            continue
        kept = Recording(recording.counts, recording.ids, recording.xyz.copy(), recording.scores)
        seen.recordings.append((sample, kept))
        if not clips.read([sample])[0]:
            seen.refused.append(clips.drops[-1][1])
    if not seen.recordings:
        raise SkelpipeError(f"none of the {len(seen.refused)} recordings looked at can be read: {seen.refused[0]}")
    return seen


def check_report(seen: Look) -> dict[str, Any]:
    """Return what was seen as plain values: shapes, ranges, guesses, what would be dropped, and all warnings."""
    rows = [
        {
            "id": sample.id,
            "subset": sample.subset,
            "frames": recording.frames,
            "bodies": recording.bodies,
            "joints": recording.xyz.shape[1],
            "ranges": _ranges(recording.xyz),
        }
        for sample, recording in seen.recordings
    ]
    return {
        "recordings": rows,
        "ranges": _ranges(np.concatenate([recording.xyz for _, recording in seen.recordings])),
        "units": guessed_units(seen),
        "said_units": seen.manifest.units,
        "y": guessed_direction(seen),
        "said_y": "down" if seen.manifest.y_down else "up",
        "would_drop": dict(Counter(drop.reason for drop in seen.plan.drops)),
        "refused": seen.refused,
        "checks": [warning for check in CHECKS for warning in check(seen)],
    }


def _ranges(xyz: np.ndarray) -> Mapping[str, list[float] | None]:
    """Return the least and the greatest value per axis; None where there is none."""
    found = xyz[np.isfinite(xyz).all(axis=2) & xyz.any(axis=2)]
    if not len(found):
        return dict.fromkeys(AXES)
    low, high = found.min(axis=0), found.max(axis=0)
    return {axis: [float(low[k]), float(high[k])] for k, axis in enumerate(AXES)}


def guessed_units(seen: Look) -> str | None:
    """Return the units in which the heights of bodies are plausible, None where none are."""
    tracks = [np.where(track.any(axis=2, keepdims=True), track, np.nan) for track in seen.tracks if len(track)]
    if not tracks:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of frames without a joint
        heights = [np.nanmax(track[..., 1], axis=1) - np.nanmin(track[..., 1], axis=1) for track in tracks]
        height = float(np.nanmedian(np.concatenate(heights)))
    every = np.concatenate(tracks)
    flat = not np.nan_to_num(every[..., 2]).any() or bool(_of_scores(seen))
    plane = np.abs(every[..., :2])
    if flat:
        return UNIT_PICTURE if np.nanmax(plane) <= 1 else "pixels" if height > FEWEST_PIXELS else None
    fitting = [unit for unit, (low, high) in TALL.items() if low <= height <= high]
    return fitting[0] if len(fitting) == 1 else None


def guessed_direction(seen: Look) -> str | None:
    """Return where y grows in the files: "up" if heads are above feet or hips in most recordings, else "down".

    None where the layout names no such joints, or recordings are of two minds.
    """
    joints = seen.manifest.layout.joints
    head = next((joints.index(name) for name in ("head", "nose", "neck") if name in joints), None)
    ends = ("ankle", "foot", "knee", "hip")
    feet = next((at for end in ends if (at := [v for v, name in enumerate(joints) if name.endswith(end)])), [])
    if head is None or not feet:
        return None
    ups = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for track in seen.tracks:
            found = np.where(track.any(axis=2, keepdims=True), track, np.nan)
            above = np.nanmedian(found[:, head, 1] - np.nanmean(found[:, feet, 1], axis=1)) if len(found) else 0.0
            ups.append(np.sign(np.nan_to_num(above)) * (-1 if seen.manifest.y_down else 1))
    total = sum(ups)
    return None if abs(total) <= len(ups) / 2 else "up" if total > 0 else "down"


def _of_units(seen: Look) -> list[str]:
    guess, said = guessed_units(seen), seen.manifest.units
    if guess in (None, said, UNIT_PICTURE) or _of_scores(seen):  # a score as z says nothing of units
        return []
    return [f"the positions look like {guess}, the manifest says {said}: write `units: {guess}`"]


def _of_bodies(seen: Look) -> list[str]:
    found = implausible(seen.tracks, seen.manifest.layout, y_down=seen.manifest.y_down)
    return [f"bodies do not look like bodies: {'; '.join(found)}"] if found else []


def _of_origins(seen: Look) -> list[str]:
    return origin_joints(seen.manifest, seen.tracks)


def _of_scores(seen: Look) -> list[str]:
    if seen.manifest.reader in FIXED_CHANNELS or "score" in seen.manifest.channels:
        return []
    like = sum(looks_like_score(recording, seen.manifest) for _, recording in seen.recordings)
    warning = score_warning(seen.manifest, like, len(seen.recordings))
    return [warning] if warning else []


def _of_bodies_per_frame(seen: Look) -> list[str]:
    most = max((recording.bodies for _, recording in seen.recordings), default=0)
    if most <= seen.manifest.bodies:
        return []
    return [
        f"frames list up to {most} bodies, a clip holds {seen.manifest.bodies}: others are left out by the rule"
        f" `body_choice: {seen.manifest.body_choice}`; `bodies: {most}` keeps all"
    ]


def _of_still_recordings(seen: Look) -> list[str]:
    still = [
        sample.id
        for (sample, _), track in zip(seen.recordings, seen.tracks, strict=True)
        if len(track) > 1 and (track == track[:1]).all()
    ]
    return [f"nothing moves in {len(still)} of the recordings, such as {still[0]}"] if still else []


CHECKS: tuple[Callable[[Look], list[str]], ...] = (
    _of_units,
    _of_bodies,
    _of_origins,
    _of_scores,
    _of_bodies_per_frame,
    _of_still_recordings,
)
