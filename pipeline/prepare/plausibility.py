"""Look at the bodies of some recordings before a dataset is trusted."""

from collections.abc import Sequence

import numpy as np

from skelpipe.errors import RawError
from skelpipe.manifest import Manifest
from skelpipe.prepare.plan import Sample
from skelpipe.raw.plausible import implausible, longest_track
from skelpipe.raw.readers import FIXED_CHANNELS, RecordingReader
from skelpipe.raw.source import RawFile

__all__ = ["implausible_bodies", "origin_joints"]

NOTABLE = 0.01  # share of joints
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
    return [
        *implausible(tracks, manifest.layout, y_down=manifest.y_down, by_options=manifest.imported),
        *origin_joints(manifest, tracks),
    ]


def origin_joints(manifest: Manifest, tracks: Sequence[np.ndarray]) -> list[str]:
    """Return a sentence if many joints of bodies [F,V,3] lie exactly at the origin, where nothing says why.

    One joint that always does is the origin of centred poses.
    """
    if manifest.missing_value is not None or manifest.reader in FIXED_CHANNELS or not manifest.own:
        return []
    at_origin: list[np.ndarray] = [np.logical_not(track.any(axis=2)) for track in tracks if len(track)]
    present = [zero[~zero.all(axis=1)] for zero in at_origin]
    zero = np.concatenate(present) if present else np.zeros((0, 1), bool)
    always = zero.all(axis=0)
    if len(zero) and always.sum() == 1:
        zero = zero[:, ~always]
    count = int(zero.sum())
    if not count or count <= NOTABLE * zero.size:
        return []
    share = 100 * count / zero.size
    write = (
        "say --missing-value 0"
        if manifest.imported
        else f"write `missing_value: 0` into the manifest of {manifest.name}"
    )
    return [
        f"{count:,} of {zero.size:,} joints looked at ({share:.1f} %) lie exactly at the origin: if they were not"
        f" found, {write}"
    ]


def _spread(files: list[RawFile]) -> list[RawFile]:
    step = max(len(files) / RECORDINGS, 1)
    return [files[int(number * step)] for number in range(min(len(files), RECORDINGS))]
