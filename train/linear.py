"""Evaluate an encoder by a linear classifier on its frozen features (linear evaluation).

    python train/linear.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint
    python train/linear.py --shards data/pkummd1-xsub --checkpoint runs/aimclr-ntu60-xsub-joint
    python train/linear.py --shards data/ntu60-xsub --checkpoint encoder.safetensors --recipe linear-skeattnclr
    python train/linear.py --shards data/ntu60-xsub --baseline random --network aimclr
    python train/linear.py --shards data/ntu60-xsub --checkpoint runs/crosclr-ntu60-xsub --heads joint,bone,motion
    python train/linear.py --shards data/ntu60-xsub --baseline raw --set optimiser.lr=0.1 --json

An installed skelpipe needs no checkout: `python -m skelpipe.train.linear --shards ...`.

Each clip is embedded once and the classifier trained on these features; with --augment training clips are cropped
and sheared afresh every epoch and go through the network each time. The encoder stays in evaluation mode, and a
hash of each of its tensors, taken before and after, shows that none changed. The folder of the run gets
result.json, scores.parquet, classes.csv, confusion.csv, log.jsonl, recipe.yaml, report.html and, for a classifier
on h, classifier.safetensors, with which train/predict.py names the actions of recordings.

With --heads one classifier per view learns, all together, on the mean of their scores, as in the released code of
CrosSCLR (divergence `crosclr-heads`); there is no classifier.safetensors of it.
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.door.answer import program
from skelpipe.errors import UsageError
from skelpipe.train.running.script_options import (
    balanced_option,
    check_network_options,
    check_room,
    common_options,
    dataset_script,
    features_option,
    network_options,
    overwrite_option,
    recipe_option,
    region_of_option,
    region_option,
    save_features_option,
    set_option,
    training_options,
)
from skelpipe.views import VIEWS

__all__ = ["main"]


def _views(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    views = tuple(value.split(",")) if value else ()
    if unknown := [view for view in views if view not in VIEWS]:
        raise click.BadParameter(f"{unknown[0]!r} is no view; known: {', '.join(VIEWS)}")
    if len(views) == 1 or len(set(views)) < len(views):
        raise click.BadParameter(f"{value}: expected several views, each once, such as joint,bone,motion")
    return views


@dataset_script("skelpipe linear --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint")
@network_options(earlier_names=False)
@recipe_option("linear evaluation", "How to train the classifier", "its paper's")
@set_option("optimiser.lr=1")
@training_options
@balanced_option
@features_option("h")
@click.option(
    "--heads",
    metavar="VIEW,VIEW...",
    callback=_views,
    help="One classifier per view, trained together on the mean of their scores (CrosSCLR).",
)
@region_option
@region_of_option
@click.option("--augment", is_flag=True, help="Crop and shear training clips afresh every epoch: slow.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: runs/linear-DATASET-VIEW-NAME].")
@overwrite_option
@save_features_option
@common_options
def main(**given: Any) -> None:
    """Evaluate an encoder by a linear classifier on its frozen features."""
    if given["heads"] and given["view"]:
        raise UsageError("--heads names the views: it takes no --view")
    check_network_options(given)
    if given["out"] is not None:
        from skelpipe.train.evaluation.outcome_folder import removable

        check_room(lambda: removable(given["out"], overwrite=given["overwrite"]))
    from skelpipe.train.recipes.chosen import check_linear

    check_linear(given)
    from skelpipe.train.commands.linear import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main, ranks=True)
