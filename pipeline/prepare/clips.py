"""From planned samples to clips: read, cut and preprocess raw files; skip or refuse damaged ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelpipe.errors import RawError
from skelpipe.kernels import njit
from skelpipe.manifest import Manifest
from skelpipe.prepare.plan import Sample
from skelpipe.preprocess import CROSCLR, STORED, Completeness, Policies, profile_writer
from skelpipe.preprocess.empty_frames import shown_frames
from skelpipe.preprocess.scores import third_like_score
from skelpipe.preprocess.tracks import shown_rows
from skelpipe.raw.readers import FIXED_CHANNELS, RecordingReader
from skelpipe.raw.recording import Recording

__all__ = ["EMPTY_WINDOW", "ClipReader", "Kept", "count_empty", "looks_like_score"]

EMPTY_WINDOW = "no body in any frame of the window"
POSITIONS = 3  # channels


@dataclass(frozen=True)
class Kept:
    """A sample that became a clip.

    `frames` and the largest number of `bodies` in a frame are those of the recording, `real` says how much of it
    is real. `like_score`: the third number of each joint looks like a score, not like z.
    """

    sample: Sample
    frames: int
    bodies: int
    note: str
    real: Completeness
    like_score: bool


class _EmptyWindowError(RawError):
    """A window over a stretch of a recording in which nobody is seen: it is left out, not damaged."""


class ClipReader:
    """Turn samples into clips. `drops` collects (id, reason) of the samples that were skipped.

    `hashes` collects the XXH128 of each sample's raw file as it was read (`RecordingReader.hash`).
    """

    def __init__(
        self,
        manifest: Manifest,
        shape: tuple[int, int, int, int],
        dtype: str,
        profile: str,
        second_body: str,
        policies: Policies,
        *,
        skip_bad: bool,
    ) -> None:
        self.drops: list[tuple[str, str]] = []
        self.hashes: dict[str, str] = {}
        self._manifest, self._layout = manifest, manifest.layout
        self._recordings = RecordingReader(manifest, shape[3], hashing="xxh128")
        self._shape = shape
        self._dtype = dtype
        # Bone and motion are differences of two stored values.
        self._largest = float(np.finfo(dtype).max) / 2
        kept = STORED if manifest.made_by == profile else profile
        self._write = profile_writer(kept, second_body, policies)
        self._as_authors = kept == CROSCLR and policies.empty_frames == "as-authors"
        self._skip_bad = skip_bad

    def read(self, samples: Sequence[Sample]) -> tuple[list[Kept], np.ndarray]:
        """Return the samples that became clips, and the clips, float32 [n,C,T,V,M].

        Raises RawError for a damaged sample, or adds it to `drops` if damaged ones are to be skipped. A window
        that shows no body is always added to `drops`.
        """
        clips = np.empty((len(samples), *self._shape), np.float32)
        kept: list[Kept] = []
        for sample in samples:
            try:
                kept.append(self._clip(sample, clips[len(kept)]))
            except _EmptyWindowError:
                self.drops.append((sample.id, EMPTY_WINDOW))
            except RawError as error:
                if not self._skip_bad:
                    raise RawError(f"{error}; repair or move the file, or pass --on-error skip") from None
                self.drops.append((sample.id, _without_folders(str(error), sample)))
        return kept, clips[: len(kept)]

    def _clip(self, sample: Sample, out: np.ndarray) -> Kept:
        where = sample.cut.origin if sample.cut else sample.file.place
        try:
            whole = self._recordings.read(sample.file)
        finally:
            if self._recordings.hash is not None:
                self.hashes[sample.id] = self._recordings.hash
        recording, first, note = _cut(whole, sample)
        if sample.cut and self._manifest.windows and not shown_rows(recording.xyz).any():
            raise _EmptyWindowError
        if not recording.bodies:
            raise RawError(f"{where}: no body in any of its {recording.frames} frames")
        like_score = looks_like_score(recording, self._manifest)
        _, frames, _, bodies = self._shape
        try:
            real = self._write(recording, self._layout, frames, bodies, out)
        except RawError as error:
            piece = f"frames {first + 1} to {first + recording.frames} of the video: " if sample.cut else ""
            raise RawError(f"{where}: {piece}{error}") from None
        if not out[:POSITIONS].any():
            raise RawError(f"{where}: {self._nothing(recording, real)}")
        if not max(-float(out.min()), float(out.max())) <= self._largest:
            raise RawError(f"{where}: a coordinate is too large for {self._dtype}")
        notes = [
            note,
            self._unused(recording),
            _mostly_empty(out) or _mostly_unseen(recording.frames, real.frames),
        ]
        return Kept(sample, recording.frames, recording.bodies, "; ".join(filter(None, notes)), real, like_score)

    def _nothing(self, recording: Recording, real: Completeness) -> str:
        """Return why a clip is zero everywhere."""
        frames = recording.frames
        if not real.frames:
            return f"no body in any of its {frames} frames: all that they list lies at the origin"
        joint = self._layout.joints[0]
        counted = counted_frames(recording)
        if self._as_authors and not counted:
            return (
                f"nothing is left of it: body 1, or its {joint}, is at the origin throughout"
                f" ({real.frames} of its {frames} frames show a body); --empty-frames dropped counts them all"
            )
        if self._as_authors and not shown_frames(recording)[:counted].any():
            return (
                f"nothing is left of it: {real.frames} of its {frames} frames show a body, but none of the first"
                f" {counted}, which are those that the authors' way keeps; --empty-frames dropped keeps the others"
            )
        return "nothing is left of it: all joints of a body lie in one point, in every frame"

    def _unused(self, recording: Recording) -> str:
        """Return a note if `crosclr` does not count some frames that show body 1 (its L counts joint 0 only)."""
        if not self._as_authors or recording.xyz[:, 0].any(axis=1).all():
            return ""
        present = recording.counts > 0
        first = (np.cumsum(recording.counts) - recording.counts)[present]
        lost = ~recording.xyz[first, 0].any(axis=1) & recording.xyz[first].any(axis=(1, 2))
        if not lost.any():
            return ""
        return f"{lost.sum()} of {recording.frames} frames do not count: {self._layout.joints[0]} is at the origin"


def counted_frames(recording: Recording) -> int:
    """Return L of profile `crosclr`: the frames in which joint 0 of the first body is not at the origin."""
    present = recording.counts > 0
    first = (np.cumsum(recording.counts) - recording.counts)[present]
    return int(recording.xyz[first, 0].any(axis=1).sum())


def looks_like_score(recording: Recording, manifest: Manifest) -> bool:
    """Return whether the third number of joints looks like a score, where the format does not say that it is z."""
    if manifest.reader in FIXED_CHANNELS or "score" in manifest.channels:
        return False
    pixels = manifest.units == "pixels"
    return third_like_score(recording, manifest.layout, in_picture=manifest.y_down, pixels=pixels)


def _mostly_empty(clip: np.ndarray) -> str:
    """Return a note for a clip of which more than half of the frames show no body."""
    empty = count_empty(clip)
    frames = clip.shape[1]
    return f"{empty} of {frames} stored frames show no body" if 2 * empty > frames else ""


def _mostly_unseen(frames: int, real: int) -> str:
    """Return a note for a recording of which more than half of the frames show no body, filled though they be."""
    return f"{frames - real} of {frames} recorded frames show no body" if 2 * real < frames else ""


@njit(cache=True, nogil=True)
def count_empty(clip: np.ndarray) -> int:
    """Return how many frames of a clip [C,T,V,M] are zero in x, y and z of all joints and bodies."""
    empty = 0
    for t in range(clip.shape[1]):
        empty += 1
        shown = False
        for v in range(clip.shape[2] - 1, -1, -1):  # the first joint is often the origin
            for m in range(clip.shape[3]):
                shown = shown or clip[0, t, v, m] != 0 or clip[1, t, v, m] != 0 or clip[2, t, v, m] != 0
            if shown:
                empty -= 1
                break
    return empty


def _cut(recording: Recording, sample: Sample) -> tuple[Recording, int, str]:
    """Return the sample's frames of a recording, the first of them counted from 0, and the sample's note."""
    cut = sample.cut
    if cut is None:
        return recording, 0, sample.note
    if cut.start > recording.frames:
        raise RawError(
            f"{cut.origin}: frames {cut.start} to {cut.end} lie outside of the video, which has {recording.frames}"
        )
    notes = [sample.note] if sample.note else []
    if cut.end > recording.frames:
        notes.append(f"frames {cut.start} to {cut.end}: cut at the video's last, {recording.frames}")
    first, last = cut.start - 1, min(cut.end, recording.frames)
    if last - first > cut.longest:
        first += (last - first - cut.longest) // 2
        last = first + cut.longest
    return recording.cut(first, last), first, "; ".join(notes)


def _without_folders(reason: str, sample: Sample) -> str:
    """Return a reason without the folders of this machine, so that digests do not depend on them."""
    paths = [sample.file.path, *(part.path for _, part in sample.file.parts)]
    if sample.cut:
        paths.append(sample.cut.origin.rpartition(":")[0])
    for path in paths:
        reason = reason.replace(path, Path(path).name)
    return reason
