"""The conditions of the papers' figures, and where those of a run differ: said wherever a figure is shown."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.train.papers.tables import Table, TableRow
from skelpipe.train.recipes.reader import load_recipe, with_overrides

__all__ = ["facts_of", "frames_of", "remarks"]

SUBSETS = ("train", "test")


def frames_of(table: Table, row: TableRow) -> int:
    """Return the frames of the clips that a row was trained and tested on.

    They are those of its recipe, for training from scratch those of the paper's own one.
    """
    if row.frames is not None:
        return row.frames
    return _frames(row.recipe or table.recipe, row.settings if row.recipe else ())


@cache
def _frames(recipe: str, settings: tuple[str, ...]) -> int:
    return with_overrides(load_recipe(recipe), settings).frames


def facts_of(dataset: Dataset) -> dict[str, Any]:
    """Return what of a dataset is held against a paper's: clips and frames.

    `clips` are the published counts of the split's subsets, `here` those of this dataset, `complete` says whether
    they are the same.
    """
    clips = dict(dataset.card["published"])
    here = {subset: dataset.count(subset) for subset in SUBSETS}
    return {
        "clips": clips,
        "here": here,
        "complete": bool(clips) and all(here[subset] == count for subset, count in clips.items()),
        "frames": dataset.frames,
    }


def remarks(facts: Mapping[str, Any], frames: int | None) -> list[str]:
    """Return in words each condition of a figure that a dataset with these `facts` does not meet, or cannot tell.

    `frames` are those of the paper's clips. Facts that earlier versions wrote may lack some, and are then silent.
    """
    found = []
    clips = facts.get("clips")
    if not clips:
        found.append("whether this dataset has the paper's clips is not known")
    elif not facts.get("complete", True):
        found.append(f"on all {_counts(clips)} clips, which this dataset does not have{_here(facts)}")
    if frames is not None and facts.get("frames", frames) != frames:
        found.append(f"with {frames} frames per clip, here {facts['frames']}")
    return found


def _here(facts: Mapping[str, Any]) -> str:
    return f": it has {_counts(facts['here'])}" if "here" in facts else ""


def _counts(counts: Mapping[str, int], subsets: Sequence[str] = SUBSETS) -> str:
    return " + ".join(f"{counts[subset]:,}" for subset in subsets if subset in counts)
