"""The paper's figure beside a measured one."""

from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.train.identity import dataset_name
from skelpipe.train.recipe import Recipe
from skelpipe.train.subject import Subject

__all__ = ["reported", "reported_text"]


def reported(dataset: Dataset, subject: Subject, protocol: str, figure: str) -> dict[str, Any] | None:
    """Return what the subject's paper reports for this dataset, split and view, or None where it has nothing.

    The accuracy in % stands under the name `figure`; beside it its source, how many clips the published splits
    have, and whether all of them are here. A network that was pre-trained on another dataset is held against the
    paper's figure for transfer.
    """
    if subject.recipe is None:
        return None
    parts = [protocol, *_unlike(subject.recipe)]
    if subject.trained_on != dataset_name(dataset):
        parts.append("transfer")
    found = subject.recipe.figure("-".join(parts), subject.view, dataset_name(dataset))
    if found is None:
        return None
    published = dataset.card["published"]
    complete = bool(published) and all(dataset.count(side) == count for side, count in published.items())
    return {figure: found[0], "source": found[1], "clips": dict(published), "complete": complete}


def _unlike(recipe: Recipe) -> list[str]:
    """Return by which names a recipe's reported figures tell this network from the one the paper is about.

    That is ST-GCN, and for AimCLR one without cross-stream mining.
    """
    encoder = recipe.values.get("encoder.name", "stgcn")
    names = [] if encoder == "stgcn" else [encoder]
    if recipe.values.get("aimclr.views", 1) > 1:
        names.append("cross")
    return names


def reported_text(result: dict[str, Any], figure: str) -> str:
    """Return what to print after a measured figure: the paper's, or nothing."""
    said = result["reported"]
    if not said or figure not in said:
        return ""
    published, more = said["clips"], ""
    if published and not said["complete"]:
        more = f"; on all {published['train']:,} + {published['test']:,} clips, which this dataset is not"
    return f"   reported {said[figure]:.1f} % ({said['source']}{more})"
