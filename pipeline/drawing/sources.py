"""From a clip of a dataset, or a raw file, to the scene that shows it."""

import heapq
import operator
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from skelpipe import manifests
from skelpipe.dataset import Dataset
from skelpipe.drawing.scene import (
    Scene,
    absent_as_nan,
    arrow_scale,
    derived,
    make_panel,
    recording_clip,
    score_facts,
)
from skelpipe.errors import DatasetError, RawError, UsageError
from skelpipe.manifest import SUBSETS, Manifest
from skelpipe.manifest_file import load_manifest
from skelpipe.preprocess import CROSCLR
from skelpipe.raw.readers import RecordingReader
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile
from skelpipe.sample_ids import sample_id

__all__ = [
    "CLIP_RATE",
    "DRAWN",
    "class_names",
    "dataset_scene",
    "find_sample",
    "made_by",
    "manifest_for",
    "raw_scene",
    "raw_title",
    "read_raw",
    "recording_scene",
]

RATES = {"ntu-skeleton": 30.0, "pku-text": 30.0, "msr-text": 15.0}  # frames per second, of readers of Kinect files
OTHER_RATE = 30.0  # of recordings whose rate is not known
CLIP_RATE = 20.0  # of clips, which were resized in time, so that no rate is the true one
DRAWN = {
    "joint": "joint: the positions of the joints",
    "bone": "bone: each vector drawn from where its parent's ends, beginning with the centre at the origin",
    "motion": "motion: an arrow from each joint along its way to the next frame, drawn {scale} times as long",
}


def dataset_scene(dataset: Dataset, identity: str | None, view: str) -> Scene:
    """Return the scene of a sample as stored; without an id, of the one that `find_sample` returns.

    UsageError where there is no such sample; DatasetError where the dataset is empty.
    """
    subset, row = find_sample(dataset, identity)
    joint = dataset.reader(subset, "joint" if view == "motion" else view).gather(np.array([row]))[0]
    shown = dataset.reader(subset, view).gather(np.array([row]))[0] if view == "motion" else joint
    joint, shown = absent_as_nan(joint, joint), absent_as_nan(shown, joint)
    present = ~np.isnan(joint[0, :, 0]).all(axis=0)
    bodies = tuple(f"body {m + 1}" for m in np.flatnonzero(present))
    panel = make_panel(view, joint[..., present], shown[..., present], dataset.layout, bodies)
    facts = {
        "dataset": f"{dataset.name}, split {dataset.split}, {subset} subset",
        "view": DRAWN[view].format(scale=arrow_scale((panel,))),
        "frames": f"{dataset.frames} as stored, played at {CLIP_RATE:g} per second",
        "bodies": f"{len(bodies)} of at most {dataset.shape[3]}",
        "units": made_by(dataset.card["units"], dataset.profile, joint),
        **score_facts((panel,)),
    }
    class_name = class_names(dataset, subset, np.array([row]))[0]
    return Scene(dataset.ids(subset)[row], class_name, facts, dataset.layout, CLIP_RATE, (panel,))


def class_names(dataset: Dataset, subset: str, rows: np.ndarray) -> list[str]:
    """Return the class of each row; "" in a dataset without labels."""
    labels = dataset.stored_labels(subset)[rows]
    return [dataset.classes[label] if dataset.labelled else "" for label in labels]


def raw_scene(path: str, manifest: Manifest, view: str) -> Scene:
    """Return the scene of a raw file, read by the manifest's reader, in the camera's coordinates.

    RawError where the file is missing or damaged.
    """
    return recording_scene(read_raw(path, manifest), path, manifest, view)


def recording_scene(recording: Recording, path: str, manifest: Manifest, view: str) -> Scene:
    """Return the scene of a recording as it was read from the file `path`; RawError where it shows no body."""
    joint, bodies = recording_clip(recording.counts, recording.ids, recording.xyz, recording.scores)
    if not bodies:
        raise RawError(f"{path}: no body in any of its {recording.frames} frames")
    panel = make_panel(view, joint, derived(joint, view, manifest.layout), manifest.layout, bodies)
    kinect, rate = manifest.reader in RATES, RATES.get(manifest.reader, OTHER_RATE)
    facts = {
        "dataset": f"{manifest.name}, raw recording",
        "view": DRAWN[view].format(scale=arrow_scale((panel,))),
        "frames": f"{recording.frames}, {'' if kinect else 'played at '}{rate:g} per second",
        "bodies": f"{len(bodies)}, at most {recording.bodies} in a frame",
        "units": f"{manifest.units}, "
        + ("the camera at the origin" if kinect and view != "bone" else "as in the file"),
        **score_facts((panel,)),
    }
    return Scene(*raw_title(path, manifest), facts, manifest.layout, rate, (panel,))


def made_by(units: str, profile: str, joints: np.ndarray) -> str:
    """Return the units of a prepared clip, joints [C,T,V,M], in words, and what its profile did to the body."""
    turned = "turned and " if np.nan_to_num(joints[2]).any() else ""  # 2D poses are not
    change = f"{turned}centred the body" if profile == CROSCLR else "put the first body's spine at the origin"
    return f"{units}, as profile {profile} {change}"


def read_raw(path: str, manifest: Manifest) -> Recording:
    """Read a raw file by the manifest's reader; RawError where it is missing or damaged."""
    return RecordingReader(manifest).read(RawFile(path, path, 0))


def raw_title(path: str, manifest: Manifest) -> tuple[str, str]:
    """Return the id and the class that a raw file's name states; the class is "" where it states none."""
    identity = manifest.identity(path)
    fields = manifest.fields(identity) if identity is not None else None
    label = manifest.class_of(fields) if fields and not manifest.segments else None
    return identity or Path(path).stem, "" if label in (None, -1) else manifest.classes[label]


def manifest_for(path: str) -> Manifest:
    """Return the built-in dataset with such file names; UsageError where there is none.

    Of several, the one with the fewest classes that contains the recording.
    """
    fitting = []
    for manifest in map(load_manifest, manifests.names("datasets")):
        identity = manifest.identity(path)
        fields = manifest.fields(identity) if identity is not None else None
        if fields is not None:
            outside = manifest.outside(fields) is not None
            fitting.append(((outside, len(manifest.classes), manifest.name), manifest))
    if not fitting:
        raise UsageError(
            f"{path}: its name is like no recording's of {', '.join(manifests.names('datasets'))}:"
            " pass --dataset to say how to read it"
        )
    return min(fitting, key=operator.itemgetter(0))[1]


def find_sample(dataset: Dataset, identity: str | None) -> tuple[str, int]:
    """Return subset and row of a sample; without an id, the first of the test subset, else of the train subset."""
    order = tuple(reversed(SUBSETS))
    if identity is None:
        for subset in order:
            if dataset.count(subset):
                return subset, 0
        raise DatasetError(f"{dataset.path}: holds no clips")
    for subset in order:
        ids = dataset.ids(subset)
        for known in (identity, sample_id(identity)):
            if known in ids:
                return subset, ids.index(known)
    near = _nearest(identity, [known for subset in order for known in dataset.ids(subset)])
    raise UsageError(f"{dataset.path}: has no sample {identity!r}; the nearest are: {', '.join(near)}")


def _nearest(identity: str, known: Sequence[str]) -> list[str]:
    """Return the ids most like a wrong one. Comparing letter by letter first is fast enough for 100,000 ids."""

    def unlike(other: str) -> int:
        longer = max(len(identity), len(other))
        same = sum(map(operator.eq, identity, other)), sum(map(operator.eq, identity[::-1], other[::-1]))
        return longer - max(same)

    return get_close_matches(identity, heapq.nsmallest(100, known, key=unlike), n=3, cutoff=0)
