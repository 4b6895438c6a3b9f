"""Which clips a page shows, and their poses in few bytes."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.door.visible import visible
from skelpipe.drawing.scene import absent_as_nan, make_panel
from skelpipe.manifest import SUBSETS

__all__ = ["ABSENT", "LEVELS", "Listed", "listed", "packed", "sampled"]

FRAMES = 32  # kept of a clip at most; the page interpolates between them
LEVELS = 255  # steps of a coordinate over a clip's longest side
ABSENT = 255  # in place of the first coordinate of a body that is not in a frame
LEAST_SIDE = 0.5  # of the cube that a clip is scaled to, in the unit of its positions

# Of runs, the true and the predicted class of each clip by its id.
Predictions = Sequence[Mapping[str, tuple[int, int]]]


@dataclass(frozen=True)
class Listed:
    """All clips of a dataset, with arrays of length N in the order of subsets and rows.

    `labels` is -1 without labels. `subjects` are texts, "" where a clip has none. `wrong` bool[R,N] says for each
    of R runs whether it mistook the clip, `known` bool[R,N] whether it evaluated it.
    """

    ids: list[str]
    labels: np.ndarray
    subsets: np.ndarray
    rows: np.ndarray
    subjects: list[str]
    wrong: np.ndarray
    known: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def listed(dataset: Dataset, predicted: Predictions = ()) -> Listed:
    """List the clips of a dataset, and which of them the runs mistook: `predicted` by their ids."""
    ids: list[str] = []
    labels, subsets, rows = [], [], []
    for number, subset in enumerate(SUBSETS):
        own = dataset.ids(subset)
        ids += own
        labels.append(dataset.stored_labels(subset))
        subsets.append(np.full(len(own), number))
        rows.append(np.arange(len(own)))
    known = np.array([[id_ in run for id_ in ids] for run in predicted], bool).reshape(len(predicted), len(ids))
    wrong = np.array([[_wrong(run.get(id_)) for id_ in ids] for run in predicted], bool).reshape(known.shape)
    return Listed(
        ids,
        np.concatenate(labels),
        np.concatenate(subsets),
        np.concatenate(rows),
        _subjects(dataset, ids),
        wrong,
        known,
    )


def sampled(clips: Listed, limit: int, seed: int = 0) -> np.ndarray:
    """Return the positions of at most `limit` clips, sorted: from all classes alike, and in each class in turn.

    The turns in a class go over its subsets, and over clips that a run mistook, that all recognised, and that none
    evaluated. Which clips of these are taken is drawn by the seed.
    """
    count = len(clips)
    if count <= limit:
        return np.arange(count)
    outcome = np.where(clips.wrong.any(axis=0), 0, np.where(clips.known.any(axis=0), 1, 2))
    group = outcome * len(SUBSETS) + clips.subsets
    drawn = np.random.default_rng(seed).permutation(count)
    turn = _rank(drawn, (clips.labels, group))
    place = _rank(turn * (group.max() + 1) + group, (clips.labels,))
    order = np.lexsort((drawn, place))
    return np.sort(order[:limit])


def packed(dataset: Dataset, clips: Listed, chosen: np.ndarray) -> list[dict[str, Any]]:
    """Return what the page needs of each chosen clip: id, class, subset, subject, and its poses.

    `poses` is base64 of uint8 [B,F,V,3] levels q: a coordinate is `q / 254` of the longest side of the clip's box,
    from its least corner on; `size` is the box in such sides. A body whose first level is 255 is absent from that
    frame. F is at most 32: frames evenly spaced from the first to the last of the `stored` ones.
    """
    found: list[dict[str, Any]] = [{} for _ in chosen]
    for number, subset in enumerate(SUBSETS):
        own = np.flatnonzero(clips.subsets[chosen] == number)
        if not len(own):
            continue
        reader = dataset.reader(subset, "joint")
        for at in np.array_split(own, -(-len(own) // 64)):  # 64 clips in memory at a time
            joints = reader.gather(clips.rows[chosen[at]])
            for place, clip in zip(at.tolist(), joints, strict=True):
                position = int(chosen[place])
                found[place] = {
                    "id": visible(clips.ids[position]),
                    "label": int(clips.labels[position]),
                    "subset": number,
                    "subject": visible(clips.subjects[position]),
                    **_poses(dataset, clip),
                }
    return found


def _poses(dataset: Dataset, clip: np.ndarray) -> dict[str, Any]:
    joint = absent_as_nan(clip, clip)
    present = ~np.isnan(joint[0, :, 0]).all(axis=0)
    joint = joint[..., present]
    frames = np.round(np.linspace(0, clip.shape[1] - 1, min(FRAMES, clip.shape[1]))).astype(int)
    panel = make_panel("joint", joint, joint, dataset.layout, ("",) * joint.shape[-1])
    points = panel.points[:, frames]  # [B,F,V,3]
    seen = np.isfinite(points).all(axis=(2, 3))
    drawn = points[seen].reshape(-1, 3)
    low, high = (drawn.min(axis=0), drawn.max(axis=0)) if len(drawn) else (np.zeros(3), np.zeros(3))
    side = max(float((high - low).max()), LEAST_SIDE)
    levels = np.round((np.nan_to_num(points) - low) * ((LEVELS - 1) / side)).clip(0, LEVELS - 1).astype(np.uint8)
    levels[..., 0, 0][~seen] = ABSENT
    return {
        "bodies": int(points.shape[0]),
        "frames": len(frames),
        "stored": int(clip.shape[1]),
        "size": [round(float(each / side), 4) for each in high - low],
        "poses": base64.b64encode(levels.tobytes()).decode(),
    }


def _wrong(pair: tuple[int, int] | None) -> bool:
    return pair is not None and pair[0] != pair[1]


def _subjects(dataset: Dataset, ids: Sequence[str]) -> list[str]:
    table = dataset.table()
    if "subject" not in table.column_names:
        return [""] * len(ids)
    pairs = zip(table.column("id").to_pylist(), table.column("subject").to_pylist(), strict=True)
    of = {id_: "" if subject is None else str(subject) for id_, subject in pairs}
    return [of.get(id_, "") for id_ in ids]


def _rank(values: np.ndarray, groups: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the place of each value among those of its group, from 0."""
    order = np.lexsort((values, *groups))
    new = np.zeros(len(order), bool)
    new[:1] = True
    for group in groups:
        new[1:] |= np.diff(group[order]) != 0
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - first
    return place
