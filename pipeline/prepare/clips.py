"""From planned samples to clips: raw files read, cut and preprocessed, damaged ones left out or refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelpipe.errors import RawError
from skelpipe.manifest import Manifest
from skelpipe.prepare.plan import Sample
from skelpipe.preprocess import CROSCLR, profile_writer
from skelpipe.raw.readers import READERS
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile, TextBuffer

__all__ = ["ClipReader", "Kept", "RecordingReader", "own_name"]


@dataclass(frozen=True)
class Kept:
    """A sample that became a clip: frames and largest number of bodies of its raw piece, and what is odd."""

    sample: Sample
    frames: int
    bodies: int
    note: str


class RecordingReader:
    """Reads recordings; the last one stays at hand, since the clips of a video follow each other."""

    def __init__(self, manifest: Manifest) -> None:
        self._read = READERS[manifest.reader]
        self._joints = len(manifest.layout)
        self._y_down = manifest.y_down
        self._text = TextBuffer()
        self._last: tuple[str, Recording | RawError] | None = None

    def read(self, file: RawFile) -> Recording:
        """Return the recording in a file; RawError where it is damaged."""
        if self._last is None or self._last[0] != file.path:
            try:
                recording = self._read(self._text.read_raw(file), file.path, self._joints)
                if self._y_down:
                    recording.xyz[:, :, 1] *= -1
                self._last = file.path, recording
            except RawError as error:
                self._last = file.path, error
        if isinstance(self._last[1], RawError):
            raise self._last[1]
        return self._last[1]


class ClipReader:
    """Makes the clips of samples in a row. `drops` gathers (id, reason) of those that were left out."""

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
        # The views are differences of two stored values.
        self._largest = float(np.finfo(dtype).max) / 2
        self._profile = profile
        self._write = profile_writer(profile, second_body)
        self._skip_bad = skip_bad

    def read(self, samples: Sequence[Sample]) -> tuple[list[Kept], np.ndarray]:
        """Return the samples that became clips, and the clips, float32 [n,C,T,V,M].

        Raises RawError for a damaged one, or notes it in `drops` when bad ones are to be skipped.
        """
        clips = np.empty((len(samples), *self._shape), np.float32)
        kept: list[Kept] = []
        for sample in samples:
            try:
                kept.append(self._clip(sample, clips[len(kept)]))
            except RawError as error:
                if not self._skip_bad:
                    raise RawError(f"{error}; repair or move the file, or pass --on-error skip") from None
                self.drops.append((sample.id, own_name(str(error), sample)))
        return kept, clips[: len(kept)]

    def _clip(self, sample: Sample, out: np.ndarray) -> Kept:
        place = sample.cut.origin if sample.cut else sample.file.path
        recording, note = _cut(self._recordings.read(sample.file), sample)
        if not recording.bodies:
            raise RawError(f"{place}: no body in any of its {recording.frames} frames")
        _, frames, _, bodies = self._shape
        try:
            self._write(recording, self._layout, frames, bodies, out)
        except RawError as error:
            raise RawError(f"{place}: {error}") from None
        if not out.any():
            joint = self._layout.joints[0]
            raise RawError(f"{place}: nothing is left of it: body 1, or its {joint}, is at the origin throughout")
        if not max(-float(out.min()), float(out.max())) <= self._largest:
            raise RawError(f"{place}: a coordinate is too large for {self._dtype}")
        return Kept(
            sample, recording.frames, recording.bodies, "; ".join(filter(None, [note, self._unused(recording)]))
        )

    def _unused(self, recording: Recording) -> str:
        """Note frames that `crosclr` does not count though body 1 is there (its L, spec A10, looks at joint 0)."""
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
    """Return the sample's piece of a recording, and its note."""
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


def own_name(reason: str, sample: Sample) -> str:
    """Return a reason without the folders of this machine: the dataset is not of this machine."""
    paths = [sample.file.path]
    if sample.cut:
        paths.append(sample.cut.origin.rpartition(":")[0])
    for path in paths:
        reason = reason.replace(path, Path(path).name)
    return reason
