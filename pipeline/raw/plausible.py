"""Whether bodies look like bodies: a wrong order of joints, or y that grows the other way, is seen in raw poses.

Nothing here is certain, so what is found is a warning. The limits hold for what was tried: recordings of NTU
RGB+D, MSR Action3D and Northwestern-UCLA, and synthetic ones of every difficulty, stay below them, each by itself;
the same recordings read with another order of joints do not.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skelpipe import manifests
from skelpipe.front.descriptions import counted
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import Layout, layout

__all__ = ["implausible", "longest_track"]

ASYMMETRY = 0.2  # mean of the logarithm: the longer of two mirrored bones is 22 % longer
ASYMMETRY_2D = 0.35  # a picture shortens the two sides differently
VARIATION = 0.7  # of a bone's median length, between the 10th and the 90th percentile of its lengths
BELOW = -0.1  # of the body's height: how far the head is below the hips
FRAMES = 200  # of a recording that are looked at


def longest_track(recording: Recording) -> np.ndarray:
    """Return the poses [F,V,3] of the body that is there in most frames, by the ids of the file."""
    ids, counts = np.unique(recording.ids, return_counts=True)
    return recording.xyz[recording.ids == ids[counts.argmax()]] if len(ids) else recording.xyz


def implausible(
    tracks: Sequence[np.ndarray], body: Layout, *, y_down: bool = False, by_options: bool = False
) -> list[str]:
    """Return what is not as in a human body, in sentences, and what would mend it; nothing if all is well.

    `tracks` holds the poses [F,V,3] of one body in each of some recordings, y upwards; a joint that was not found
    is NaN or at the origin. Poses whose z is 0 throughout are 2D. `y_down` says that y had to be reversed to point
    upwards. With `by_options` the advice names options of `skelpipe import` instead of keys of a manifest. Looked
    at are: mirrored bones of different length, bones whose length varies over time (3D only), and the head below
    the hips; each as the median over recordings.
    """
    poses = [_seen(track) for track in tracks if len(track)]
    poses = [pose for pose in poses if np.isfinite(pose).any()]
    if not poses:
        return []
    flat = not any(np.nan_to_num(pose[..., 2]).any() for pose in poses)
    found = _measure(poses, body, flat=flat)
    said = found.sentences()
    if not said:
        return []
    if fitting := _fitting(poses, body, found, flat=flat):
        write = f"say --layout {fitting}" if by_options else f"write `layout: {fitting}` in the manifest"
        advice = f"the joints are rather in the order of layout {fitting}: {write}"
    elif not found.proportions_fit:
        advice = f"is the order of the joints that of layout {body.name}? `skelpipe info --layout NAME` lists it"
    elif y_down:
        write = "say --y up" if by_options else "leave out `y: down` in the manifest"
        advice = f"does y grow upwards in the files? Then {write}"
    else:
        write = "say --y down" if by_options else "write `y: down` in the manifest"
        advice = f"does y grow downwards in the files? Then {write}"
    return [*said, advice]


@dataclass(frozen=True)
class _Measures:
    """Medians over recordings, see the limits above; `below` counts those with the head below the hips."""

    asymmetry: float
    variation: float
    below: int
    recordings: int
    flat: bool

    @property
    def proportions_fit(self) -> bool:
        return self.asymmetry <= (ASYMMETRY_2D if self.flat else ASYMMETRY) and self.variation <= VARIATION

    def sentences(self) -> list[str]:
        of = f"of {counted(self.recordings, 'recording')}"
        said = []
        if self.asymmetry > (ASYMMETRY_2D if self.flat else ASYMMETRY):
            more = 100 * (np.exp(self.asymmetry) - 1)
            said.append(
                f"left and right are unlike: bones that mirror each other differ by {more:.0f} % in length"
            )
        if self.variation > VARIATION:
            said.append(f"bones change their length: within a recording by {100 * self.variation:.0f} %")
        if 2 * self.below > self.recordings:
            said.append(f"the head is below the hips in {self.below} {of}")
        return said


def _seen(track: np.ndarray) -> np.ndarray:
    """Return at most `FRAMES` frames, float64; joints at the origin become NaN."""
    chosen = np.linspace(0, len(track) - 1, min(len(track), FRAMES)).round().astype(int)
    pose = np.asarray(track, np.float64)[chosen]
    return np.where(pose.any(axis=2, keepdims=True), pose, np.nan)


def _measure(poses: Sequence[np.ndarray], body: Layout, *, flat: bool) -> _Measures:
    parents, mirror = np.array(body.parents), np.array(body.mirror)
    left = np.array([v for v, other in enumerate(body.mirror) if other > v], int)
    left = left[(parents[left] != left) & (parents[mirror[left]] == mirror[parents[left]])]
    head, hips = _head(body), [v for v, joint in enumerate(body.joints) if joint.endswith(" hip")]
    children = np.array([child for child, _ in body.edges], int)
    asymmetry, variation, rise = [], [], []
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # medians of nothing but NaN are NaN
        for pose in poses:
            bones = np.linalg.norm(pose - pose[:, parents], axis=2)
            quantiles = np.nanquantile if np.isnan(bones).any() else np.quantile  # the latter is faster
            low, median, high = quantiles(bones, (0.1, 0.5, 0.9), axis=0)
            logarithm = np.where(median > 0, np.log(median), np.nan)
            asymmetry.append(
                np.nanmedian(np.abs(logarithm[left] - logarithm[mirror[left]])) if len(left) else np.nan
            )
            spread = np.where(median > 0, (high - low) / median, np.nan)
            variation.append(np.nan if flat else np.nanmedian(spread[children]))
            height = np.nanmedian(np.nanmax(pose[..., 1], axis=1) - np.nanmin(pose[..., 1], axis=1))
            above = (
                pose[:, head, 1] - np.nanmean(pose[:, hips, 1], axis=1) if hips and head is not None else np.nan
            )
            rise.append(np.nanmedian(above) / height)
        below = int((np.array(rise) < BELOW).sum())
        medians = [float(np.nan_to_num(np.nanmedian(values))) for values in (asymmetry, variation)]
    return _Measures(medians[0], medians[1], below, len(poses), flat)


def _head(body: Layout) -> int | None:
    return next((body.joints.index(name) for name in ("head", "nose") if name in body.joints), None)


def _fitting(poses: Sequence[np.ndarray], body: Layout, found: _Measures, *, flat: bool) -> str:
    """Return the built-in layout of as many joints that fits best and clearly better than `body`, or ''."""
    others = [
        other
        for name in manifests.names("layouts")
        if len(other := layout(name)) == len(body) and (other.joints, other.parents) != (body.joints, body.parents)
    ]
    measured = {other.name: _measure(poses, other, flat=flat) for other in others}
    good = {
        name: facts.asymmetry + facts.variation
        for name, facts in measured.items()
        if facts.proportions_fit and 2 * facts.asymmetry < found.asymmetry
    }
    return min(good, key=good.__getitem__, default="")
