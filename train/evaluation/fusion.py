"""Fusing the scores of several streams: joined by sample id, weighted, added without a softmax.

The weights of the papers are listed in docs/evaluation.md, "Fusion of streams" (divergence `fusion-weights`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import CARD
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.train.evaluation.outcome import Scores
from skelpipe.train.evaluation.stream_weights import check_count, read_weights
from skelpipe.views import VIEWS

__all__ = [
    "Weights",
    "align",
    "equal_weights",
    "find_dataset",
    "fuse",
    "fused_view",
    "named_weights",
    "papers_weights",
    "parse_weights",
]

NAMED = 5  # samples an error names
SAME = ("dataset", "digest", "split", "classes")  # metadata that must be equal in all streams
SKELEMIX = "SkeleMixCLR"
TUNED = "chosen on the test set"


@dataclass(frozen=True)
class Weights:
    """The weight of each stream [S], in the order of the streams, with the name and source of the set."""

    name: str
    source: str
    values: tuple[float, ...]

    def shares(self) -> tuple[float, ...]:
        """Return the weights as shares of their sum, rounded: equal for sets that rank the classes equally."""
        total = sum(self.values)
        return tuple(round(value / total, 9) for value in self.values)

    def merged(self, other: "Weights") -> "Weights":
        """Return this set with the name and source of an equal one added, if they are others."""
        if other.source in self.source.split("; "):
            return self
        return replace(self, name=f"{self.name}, {other.name}", source=f"{self.source}; {other.source}")


def align(streams: Sequence[Scores], names: Sequence[str]) -> list[Scores]:
    """Return the streams with their samples in the order of the first one; `names` name them in errors.

    Raises UsageError where datasets, digests, splits or classes differ, and SkelpipeError, naming samples, where
    one stream lacks some of another or they disagree about a label.
    """
    first, *others = streams
    aligned = [first]
    for name, other in zip(names[1:], others, strict=True):
        differing = [key for key in SAME if first.about[key] != other.about[key]]
        if differing:
            what = "; ".join(
                f"{key}: {_short(first.about[key])} and {_short(other.about[key])}" for key in differing
            )
            raise UsageError(f"{names[0]} and {name} are not of the same samples: {what}")
        row_of = {id_: row for row, id_ in enumerate(other.ids)}
        _refuse_missing([id_ for id_ in first.ids if id_ not in row_of], name, names[0])
        known = set(first.ids)
        _refuse_missing([id_ for id_ in other.ids if id_ not in known], names[0], name)
        rows = np.array([row_of[id_] for id_ in first.ids], np.int64)
        labels = other.labels[rows]
        if (labels != first.labels).any():
            row = int((labels != first.labels).argmax())
            raise SkelpipeError(
                f"{name}: labels {first.ids[row]} {labels[row]}, where {names[0]} says {first.labels[row]}"
            )
        aligned.append(replace(other, ids=first.ids, labels=labels, scores=other.scores[rows]))
    return aligned


def fuse(streams: Sequence[Scores], weights: Sequence[float]) -> np.ndarray:
    """Return the weighted sum of aligned scores, float32[N,K]: raw, without softmax, added in float64."""
    total = np.zeros(streams[0].scores.shape)
    for stream, weight in zip(streams, weights, strict=True):
        if weight:  # a stream of weight 0 may hold infinite scores
            total += weight * stream.scores.astype(np.float64)
    return total.astype(np.float32)


def fused_view(views: Sequence[str]) -> str:
    """Return the papers' name of these streams together: `3s`, `joint+motion`."""
    return "3s" if sorted(views) == sorted(VIEWS) else "+".join(views)


def papers_weights(dataset: str, views: Sequence[str]) -> list[Weights]:
    """Return the weights of the papers for streams of these views, on a dataset such as `ntu60-xsub`.

    AimCLR's come first. Sets that rank classes equally become one, with all their names; a set of zeros is left
    out. For other views than joint, bone and motion, and for a view that comes twice, the papers have no weights:
    then all are equal.
    """
    if not set(views) <= set(VIEWS) or len(set(views)) < len(views):
        return [equal_weights(len(views))]
    found: dict[tuple[float, ...], Weights] = {}
    for name, source, of_view in _sets(dataset):
        weights = Weights(name, source, tuple(of_view[view] for view in views))
        if any(weights.values):
            earlier = found.get(weights.shares())
            found[weights.shares()] = weights if earlier is None else earlier.merged(weights)
    return list(found.values())


def equal_weights(count: int) -> Weights:
    """Return equal weights, which are of no paper."""
    return Weights("equal", "equal weights", (1.0,) * count)


def named_weights(sets: Sequence[Weights], method: str | None) -> Weights:
    """Return the default set: SkeleMixCLR's own for its networks, otherwise the first, AimCLR's."""
    name = SKELEMIX if (method or "").startswith("skelemixclr") else sets[0].name
    return next((one for one in sets if name in one.name), sets[0])


def parse_weights(text: str, views: Sequence[str]) -> Weights:
    """Read `joint=0.6,bone=0.6,motion=0.4`, or `0.6,0.6,0.4` in the order of the streams.

    Raises UsageError where a stream has no weight, a weight no stream, or all are 0.
    """
    weights = read_weights(text)
    if not isinstance(weights, dict):
        check_count(text, len(views))
        return Weights("given", "--weights", weights)
    if len(set(views)) < len(views):
        raise UsageError(f"--weights {text}: a view comes twice: give the weights in the order of the streams")
    if others := sorted(set(weights) ^ set(views)):
        raise UsageError(f"--weights {text}: the streams are {', '.join(views)}; {others[0]} does not fit")
    return Weights("given", "--weights", tuple(weights[view] for view in views))


def find_dataset(
    shards: str | None, digest: str, cache: Path | None = None, cache_size: int | None = None
) -> Dataset | None:
    """Return the dataset of scores with this digest: at `shards`, or at $SKELPIPE_SHARDS, here or under `data/`.

    None where it is not found; UsageError where `shards` names another dataset.
    """
    if shards is not None:
        dataset = Dataset.open(shards, cache=cache, cache_size=cache_size)
        if dataset.digest != digest:
            raise UsageError(
                f"{dataset.path} has digest {dataset.digest[:12]}, the scores are of a dataset with {digest[:12]}"
            )
        return dataset
    cards = sorted(str(card.parent) for card in Path("data").glob(f"*/{CARD}"))
    for folder in (os.environ.get("SKELPIPE_SHARDS", ""), ".", *cards):
        if folder and Path(folder, CARD).is_file():
            try:
                dataset = Dataset.open(folder)
            except SkelpipeError:
                continue  # it is optional: a report without drawings says how to add them
            if dataset.digest == digest:
                return dataset
    return None


def _sets(dataset: str) -> list[tuple[str, str, dict[str, float]]]:
    """Return name, source and weight per view of every published set for a dataset, in order of preference."""

    def of(joint: float, bone: float, motion: float) -> dict[str, float]:
        return {"joint": joint, "bone": bone, "motion": motion}

    sets = [
        ("AimCLR", "AimCLR and MsMCLR, papers", of(0.6, 0.6, 0.4)),
        (SKELEMIX, "SkeleMixCLR, paper", of(1, 1, 1)),
    ]
    if dataset in ACTCLR:
        sets.append(("ActCLR", f"ActCLR's code, {TUNED}", of(*ACTCLR[dataset])))
    if dataset == "ntu60-xview":
        sets.append(("AimCLR in ActCLR", f"ActCLR's code, its AimCLR, {TUNED}", of(0.6, 0.6, 0.8)))
    if dataset.endswith("xsub"):
        sets.append(("SkeAttnCLR", f"SkeAttnCLR's code, {TUNED}", of(0.5, 0.5, 0.5)))
        sets.append(("SkeAttnCLR", f"SkeAttnCLR's code, {TUNED}", of(0.5, 0.5, 0.4)))
    if dataset.endswith("xview"):
        sets.append(("SkeAttnCLR", f"SkeAttnCLR's code, {TUNED}", of(1, 0.2, 0.2)))
    return sets


ACTCLR = {  # joint, bone, motion
    "ntu60-xsub": (0.4, 0.4, 0.4),
    "ntu60-xview": (0.6, 0.6, 0.4),
    "ntu120-xsub": (0.6, 0.4, 0.6),
    "ntu120-xset": (0.6, 0.4, 0.6),
    "pkummd1-xsub": (0.6, 0.6, 0.4),
    "pkummd1-xview": (0.6, 0.0, 0.4),
    "pkummd2-xsub": (0.6, 0.4, 0.6),
    "pkummd2-xview": (0.2, 0.2, 0.6),
}


def _refuse_missing(ids: Sequence[str], where: str, there: str) -> None:
    if ids:
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        raise SkelpipeError(
            f"{where}: lacks {len(ids)} of the samples in {there}: {', '.join(ids[:NAMED])}{more}; "
            "evaluate both streams on the same subset"
        )


def _short(text: str, room: int = 40) -> str:
    return text if len(text) <= room else text[: room - 3] + "..."
