"""The papers' figures beside measured ones."""

import json
from collections.abc import Mapping
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.evaluated_network import Subject
from skelpipe.train.papers.references import Reference
from skelpipe.train.running.provenance import Provenance, dataset_name

__all__ = [
    "HELD_AGAINST",
    "PUBLISHED",
    "published",
    "reference",
    "reported",
    "reported_knn",
    "reported_text",
    "told_by_scores",
]

HELD_AGAINST = "held_against"  # what scores say of a network's place in the papers' tables
PUBLISHED = "published"  # and of the clips that those were measured on


def reference(dataset: Dataset, subject: Subject, protocol: str, labels: float = 1.0) -> Reference | None:
    """Return where in the papers' tables an evaluation stands, or None for a network that is none of theirs.

    `protocol` is one of `published.PROTOCOLS`, `labels` the share of the training labels. A network that was
    pre-trained on another dataset is held against figures for transfer from that one.
    """
    if subject.recipe is None:
        return None
    where = {"dataset": dataset_name(dataset), "stream": subject.view, "trained_on": subject.trained_on}
    return Reference.to(subject.recipe, protocol, **where, labels=labels)


def published(dataset: Dataset) -> dict[str, Any]:
    """Return how many clips each side of the published split has, and whether all of them are here."""
    clips = dict(dataset.card["published"])
    complete = bool(clips) and all(dataset.count(side) == count for side, count in clips.items())
    return {"clips": clips, "complete": complete}


def told_by_scores(held: Reference | None, dataset: Dataset) -> dict[str, str]:
    """Return what scores say of themselves for fusion, which may lack the dataset; nothing without `held`."""
    return {HELD_AGAINST: held.text(), PUBLISHED: json.dumps(published(dataset))} if held is not None else {}


def reported(held: Reference | None, clips: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the papers report for an evaluation, or None where they have nothing.

    Accuracies in % stand under the names of the figures, beside them their source and `clips`, see `published`;
    empty where they are not known.
    """
    found = held.figures() if held is not None else None
    return {**found[0], "source": found[1], **clips} if found is not None else None


def reported_knn(provenance: Provenance) -> dict[str, Any] | None:
    """Return what the papers report for the nearest neighbours of a pre-trained network, as `reported` does."""
    dataset = provenance.clips.dataset
    where = {"dataset": dataset, "stream": provenance.view, "trained_on": dataset}
    return reported(Reference.to(provenance.pretraining, "knn", **where), {})


def reported_text(result: Mapping[str, Any], figure: str) -> str:
    """Return what to print after a measured figure: the paper's, or nothing."""
    said = result["reported"]
    if not said or figure not in said:
        return ""
    clips, more = said.get("clips"), ""
    if clips and not said["complete"]:
        more = f"; on all {clips['train']:,} + {clips['test']:,} clips, which this dataset is not"
    value = said[figure]
    digits = 1 if round(value, 1) == round(value, 2) else 2
    return f"   reported {value:.{digits}f} % ({said['source']}{more})"
