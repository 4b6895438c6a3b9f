"""The papers' figures beside measured ones."""

from collections.abc import Mapping
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.train.heldagainst import Reference
from skelpipe.train.identity import dataset_name
from skelpipe.train.subject import Subject

__all__ = ["HELD_AGAINST", "reference", "reported", "reported_text"]

HELD_AGAINST = "held_against"  # what scores say of a network's place in the papers' tables


def reference(dataset: Dataset, subject: Subject, protocol: str, labels: float = 1.0) -> Reference | None:
    """Return where in the papers' tables an evaluation stands, or None for a network that is none of theirs.

    `protocol` is one of `published.PROTOCOLS`, `labels` the share of the training labels. A network that was
    pre-trained on another dataset is held against figures for transfer from that one.
    """
    if subject.recipe is None:
        return None
    where = {"dataset": dataset_name(dataset), "stream": subject.view, "trained_on": subject.trained_on}
    return Reference.to(subject.recipe, protocol, **where, labels=labels)


def reported(held: Reference | None, dataset: Dataset | None) -> dict[str, Any] | None:
    """Return what the papers report for an evaluation, or None where they have nothing.

    Accuracies in % stand under the names of the figures; beside them their source and, of a dataset that is at
    hand, how many clips the published splits have, and whether all of them are here.
    """
    found = held.figures() if held is not None else None
    if found is None:
        return None
    if dataset is None:
        return {**found[0], "source": found[1]}
    published = dataset.card["published"]
    complete = bool(published) and all(dataset.count(side) == count for side, count in published.items())
    return {**found[0], "source": found[1], "clips": dict(published), "complete": complete}


def reported_text(result: Mapping[str, Any], figure: str) -> str:
    """Return what to print after a measured figure: the paper's, or nothing."""
    said = result["reported"]
    if not said or figure not in said:
        return ""
    published, more = said.get("clips"), ""
    if published and not said["complete"]:
        more = f"; on all {published['train']:,} + {published['test']:,} clips, which this dataset is not"
    value = said[figure]
    digits = 1 if round(value, 1) == round(value, 2) else 2
    return f"   reported {value:.{digits}f} % ({said['source']}{more})"
