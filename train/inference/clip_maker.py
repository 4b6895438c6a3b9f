"""Clips of raw recordings, made as those that a network was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelpipe.errors import RawError
from skelpipe.manifest import Manifest
from skelpipe.preprocess import ProfileWriter
from skelpipe.raw.readers import RecordingReader
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile

__all__ = ["ClipMaker"]


@dataclass(frozen=True)
class ClipMaker:
    """How the clips of a network are made: `manifest` says how raw files are read, `write` makes a clip of profile
    `profile` from a recording, with `frames`, `bodies` and numbers of `dtype`.
    """

    manifest: Manifest
    profile: str
    write: ProfileWriter
    frames: int
    bodies: int
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of a clip, [C,T,V,M]."""
        return len(self.manifest.stored_channels), self.frames, len(self.manifest.layout), self.bodies

    def clips(
        self, files: Sequence[RawFile], damaged: list[tuple[RawFile, str]] | None = None
    ) -> tuple[np.ndarray, list[RawFile]]:
        """Return recordings as joint clips, float32 [n,C,T,V,M], rounded as the stored clips of training were.

        RawError, naming the file, where one is missing or damaged or has no body; with `damaged` it is left out,
        and added there with the reason. The files that gave clips come second.
        """
        clips = np.empty((len(files), *self.shape), np.float32)
        kept: list[RawFile] = []
        reader = RecordingReader(self.manifest, self.bodies)
        for file in files:
            try:
                self.fill(reader.read(file), file.path, clips[len(kept)])
            except RawError as error:
                if damaged is None:
                    raise
                damaged.append((file, str(error)))
            else:
                kept.append(file)
        return self.stored(clips[: len(kept)]), kept

    def fill(self, recording: Recording, place: str, clip: np.ndarray) -> None:
        """Write a recording into a clip [C,T,V,M]; RawError, naming its place, where it has no body."""
        if not recording.bodies:
            raise RawError(f"{place}: no body in any of its {recording.frames} frames")
        try:
            self.write(recording, self.manifest.layout, self.frames, self.bodies, clip)
        except RawError as error:
            raise RawError(f"{place}: {error}") from None

    def stored(self, clips: np.ndarray) -> np.ndarray:
        """Return clips rounded as a dataset stores them."""
        return clips.astype(self.dtype).astype(np.float32)

    def name(self, path: str) -> str:
        """Return what results call a recording: its id where the name is one of the dataset's, else the file's."""
        identity = self.manifest.identity(path)
        if identity is not None and self.manifest.fields(identity) is None:
            identity = Path(path).name[: len(identity)]  # no recording's name: as it is written
        return identity or Path(path).stem
