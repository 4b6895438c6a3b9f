"""Look at the bodies of some recordings before a dataset is trusted."""

from collections.abc import Sequence

import numpy as np

from skelpipe.errors import RawError
from skelpipe.manifest import Manifest
from skelpipe.prepare.plan import Sample
from skelpipe.raw.plausible import implausible, longest_track
from skelpipe.raw.readers import RecordingReader
from skelpipe.raw.source import RawFile

__all__ = ["implausible_bodies"]

RECORDINGS = 32
BYTES = 1 << 26  # of raw files: 64 MB are read in well under a second


def implausible_bodies(manifest: Manifest, samples: Sequence[Sample]) -> list[str]:
    """Return what is not as in a human body in up to 32 of the samples' recordings; see `implausible`.

    The recordings are spread over the samples. A damaged one is left out: it is reported where it is prepared.
    """
    reader, size = RecordingReader(manifest), 0
    tracks: list[np.ndarray] = []
    for file in _spread(list({sample.file: None for sample in samples})):
        size += 0 if file.item else file.size  # of an array for many recordings, one part is read
        if tracks and size > BYTES:
            break
        try:
            tracks.append(longest_track(reader.read(file)).copy())
        except RawError:
            continue
    return implausible(tracks, manifest.layout, y_down=manifest.y_down)


def _spread(files: list[RawFile]) -> list[RawFile]:
    step = max(len(files) / RECORDINGS, 1)
    return [files[int(number * step)] for number in range(min(len(files), RECORDINGS))]
