"""From planned samples to clips: read, cut and preprocess raw files; skip or refuse damaged ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelpipe.errors import RawError
from skelpipe.manifest import Manifest
from skelpipe.prepare.plan import Sample
from skelpipe.preprocess import CROSCLR, STORED, profile_writer
from skelpipe.raw.readers import RecordingReader
from skelpipe.raw.recording import Recording

__all__ = ["ClipReader", "Kept"]


@dataclass(frozen=True)
class Kept:
    """A sample that became a clip: its frames and largest number of bodies in the recording, and a note."""

    sample: Sample
    frames: int
    bodies: int
    note: str


class ClipReader:
    """Turn samples into clips. `drops` collects (id, reason) of the samples that were skipped."""

    def __init__(
        self,
        manifest: Manifest,
        shape: tuple[int, int, int, int],
        dtype: str,
        profile: str,
        second_body: str,
        *,
        skip_bad: bool,
    ) -> None:
        self.drops: list[tuple[str, str]] = []
        self._layout = manifest.layout
        self._recordings = RecordingReader(manifest)
        self._shape = shape
        self._dtype = dtype
        # Bone and motion are differences of two stored values.
        self._largest = float(np.finfo(dtype).max) / 2
        self._profile = profile
        self._write = profile_writer(STORED if manifest.made_by == profile else profile, second_body)
        self._skip_bad = skip_bad

    def read(self, samples: Sequence[Sample]) -> tuple[list[Kept], np.ndarray]:
        """Return the samples that became clips, and the clips, float32 [n,C,T,V,M].

        Raises RawError for a damaged sample, or adds it to `drops` if damaged ones are to be skipped.
        """
        clips = np.empty((len(samples), *self._shape), np.float32)
        kept: list[Kept] = []
        for sample in samples:
            try:
                kept.append(self._clip(sample, clips[len(kept)]))
            except RawError as error:
                if not self._skip_bad:
                    raise RawError(f"{error}; repair or move the file, or pass --on-error skip") from None
                self.drops.append((sample.id, _without_folders(str(error), sample)))
        return kept, clips[: len(kept)]

    def _clip(self, sample: Sample, out: np.ndarray) -> Kept:
        where = sample.cut.origin if sample.cut else sample.file.path
        recording, note = _cut(self._recordings.read(sample.file), sample)
        if not recording.bodies:
            raise RawError(f"{where}: no body in any of its {recording.frames} frames")
        if np.isnan(recording.xyz).any():
            raise RawError(f"{where}: holds a joint that was not found")
        _, frames, _, bodies = self._shape
        try:
            self._write(recording, self._layout, frames, bodies, out)
        except RawError as error:
            raise RawError(f"{where}: {error}") from None
        if not out.any():
            joint = self._layout.joints[0]
            raise RawError(f"{where}: nothing is left of it: body 1, or its {joint}, is at the origin throughout")
        if not max(-float(out.min()), float(out.max())) <= self._largest:
            raise RawError(f"{where}: a coordinate is too large for {self._dtype}")
        return Kept(
            sample, recording.frames, recording.bodies, "; ".join(filter(None, [note, self._unused(recording)]))
        )

    def _unused(self, recording: Recording) -> str:
        """Return a note if `crosclr` does not count some frames that show body 1 (its L counts joint 0 only)."""
        if self._profile != CROSCLR:
            return ""
        if recording.xyz[:, 0].any(axis=1).all():
            return ""
        present = recording.counts > 0
        first = (np.cumsum(recording.counts) - recording.counts)[present]
        lost = ~recording.xyz[first, 0].any(axis=1) & recording.xyz[first].any(axis=(1, 2))
        if not lost.any():
            return ""
        return f"{lost.sum()} of {recording.frames} frames do not count: {self._layout.joints[0]} is at the origin"


def _cut(recording: Recording, sample: Sample) -> tuple[Recording, str]:
    """Return the sample's frames of a recording, and its note."""
    cut = sample.cut
    if cut is None:
        return recording, sample.note
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
    return recording.cut(first, last), "; ".join(notes)


def _without_folders(reason: str, sample: Sample) -> str:
    """Return a reason without the folders of this machine, so that digests do not depend on them."""
    paths = [sample.file.path, *(part.path for part in sample.file.parts)]
    if sample.cut:
        paths.append(sample.cut.origin.rpartition(":")[0])
    for path in paths:
        reason = reason.replace(path, Path(path).name)
    return reason
