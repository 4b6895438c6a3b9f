"""What the papers report for a network, to be shown beside the measured figures."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.evaluated_network import EvaluatedNetwork
from skelpipe.train.papers.conditions import facts_of, remarks
from skelpipe.train.papers.references import Reference
from skelpipe.train.papers.tables import paper_figure
from skelpipe.train.recipes.schema import FinetuneRecipe, LinearRecipe
from skelpipe.train.running.provenance import Provenance, dataset_name

__all__ = [
    "PUBLISHED",
    "REFERENCE",
    "reference",
    "reference_metadata",
    "remarks_on",
    "reported",
    "reported_knn",
    "reported_text",
]

REFERENCE = "held_against"  # key in the metadata of scores: the reference of their network
PUBLISHED = "published"  # key in the metadata of scores: what `facts_of` returns


def reference(
    dataset: Dataset,
    network: EvaluatedNetwork,
    protocol: str,
    labels: float = 1.0,
    recipe: LinearRecipe | FinetuneRecipe | None = None,
) -> Reference | None:
    """Return what an evaluation is compared with, or None if the papers have no rows of the network's recipe.

    They have no figures of features of a region.

    `protocol` is one of `tables.PROTOCOLS`, `labels` the share of the training labels, `recipe` that of the
    evaluation where it has one. If the network was
    pre-trained on another dataset, it is compared with figures for transfer from that dataset.
    """
    if network.recipe is None or network.region is not None:
        return None
    return Reference.of_recipe(
        network.recipe,
        protocol,
        dataset=dataset_name(dataset),
        stream=network.stream,
        trained_on=network.trained_on,
        labels=labels,
        together=bool(network.streams),
        evaluation={} if recipe is None else recipe.content(),
    )


def reference_metadata(found: Reference | None, dataset: Dataset) -> dict[str, str]:
    """Return the metadata from which fusion, which has no dataset, knows a reference; empty for None."""
    return {REFERENCE: found.text(), PUBLISHED: json.dumps(facts_of(dataset))} if found is not None else {}


def reported(
    found: Reference | None, dataset: Dataset | Mapping[str, Any], more: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Return what the papers report for an evaluation, or None if they report nothing of its kind.

    A figure of classifiers of all streams that learned together is no figure of classifiers that learned alone.

    The result has the figures by name, their `source`, the facts of the dataset (`facts_of`) and `remarks`: every
    condition of the paper and every value of its recipe that does not hold here, and the remarks in `more`. A
    dataset that is not at hand is given as its facts, as far as they are known.
    """
    figures = found.figures() if found is not None else None
    if found is None or figures is None or found.heads_together() != found.together:
        return None
    facts = dict(dataset) if isinstance(dataset, Mapping) else facts_of(dataset)
    said = [*remarks(facts, found.frames()), *found.changed(), *more]
    return {**figures[0], "source": figures[1], **facts, "remarks": said}


def reported_knn(provenance: Provenance, dataset: Dataset | None = None) -> dict[str, Any] | None:
    """Return what the papers report for the nearest neighbours of a pre-trained network; see `reported`.

    `dataset` is the one it was trained on, where it is at hand.
    """
    name = provenance.clips.dataset
    where = {"dataset": name, "stream": provenance.view, "trained_on": name}
    facts = {"frames": provenance.clips.frames} if dataset is None else dataset
    return reported(Reference.of_recipe(provenance.pretraining, "knn", **where), facts)


def remarks_on(found: Mapping[str, Any]) -> list[str]:
    """Return the remarks that belong to what `reported` returned, also of earlier versions, which had none."""
    return list(found["remarks"]) if "remarks" in found else remarks(found, None) if "clips" in found else []


def reported_text(result: Mapping[str, Any], figure: str) -> str:
    """Return the text to print after a measured figure: the paper's figure, or nothing if there is none."""
    found = result["reported"]
    if not found or figure not in found:
        return ""
    about = "; ".join([found["source"], *remarks_on(found)])
    value, unit = (paper_figure(found[figure], 4), "") if figure == "nmi" else (paper_figure(found[figure]), " %")
    return f"   reported {value}{unit} ({about})"
