"""What the papers report for a network, to be shown beside the measured figures."""

import json
from collections.abc import Mapping
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.evaluated_network import EvaluatedNetwork
from skelpipe.train.papers.references import Reference
from skelpipe.train.running.provenance import Provenance, dataset_name

__all__ = [
    "PUBLISHED",
    "REFERENCE",
    "published",
    "reference",
    "reference_metadata",
    "reported",
    "reported_knn",
    "reported_text",
]

REFERENCE = "held_against"  # key in the metadata of scores: the reference of their network
PUBLISHED = "published"  # key in the metadata of scores: what `published` returns


def reference(dataset: Dataset, network: EvaluatedNetwork, protocol: str, labels: float = 1.0) -> Reference | None:
    """Return what an evaluation is compared with, or None if the papers have no rows of the network's recipe.

    `protocol` is one of `tables.PROTOCOLS`, `labels` the share of the training labels. If the network was
    pre-trained on another dataset, it is compared with figures for transfer from that dataset.
    """
    if network.recipe is None:
        return None
    where = {"dataset": dataset_name(dataset), "stream": network.view, "trained_on": network.trained_on}
    return Reference.of_recipe(network.recipe, protocol, **where, labels=labels)


def published(dataset: Dataset) -> dict[str, Any]:
    """Return the clip counts of the published split's subsets, and whether this dataset has all these clips."""
    clips = dict(dataset.card["published"])
    complete = bool(clips) and all(dataset.count(subset) == count for subset, count in clips.items())
    return {"clips": clips, "complete": complete}


def reference_metadata(found: Reference | None, dataset: Dataset) -> dict[str, str]:
    """Return the metadata from which fusion, which has no dataset, knows a reference; empty for None."""
    return {REFERENCE: found.text(), PUBLISHED: json.dumps(published(dataset))} if found is not None else {}


def reported(found: Reference | None, clips: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the papers report for an evaluation, or None if they report nothing.

    The result has the accuracies in % by the figures' names, their `source` and the content of `clips`: what
    `published` returns, or nothing where that is not known.
    """
    figures = found.figures() if found is not None else None
    return {**figures[0], "source": figures[1], **clips} if figures is not None else None


def reported_knn(provenance: Provenance) -> dict[str, Any] | None:
    """Return what the papers report for the nearest neighbours of a pre-trained network; see `reported`."""
    dataset = provenance.clips.dataset
    where = {"dataset": dataset, "stream": provenance.view, "trained_on": dataset}
    return reported(Reference.of_recipe(provenance.pretraining, "knn", **where), {})


def reported_text(result: Mapping[str, Any], figure: str) -> str:
    """Return the text to print after a measured figure: the paper's figure, or nothing if there is none."""
    found = result["reported"]
    if not found or figure not in found:
        return ""
    clips, more = found.get("clips"), ""
    if clips and not found["complete"]:
        more = f"; on all {clips['train']:,} + {clips['test']:,} clips, which this dataset does not have"
    value = found[figure]
    digits = 1 if round(value, 1) == round(value, 2) else 2
    return f"   reported {value:.{digits}f} % ({found['source']}{more})"
