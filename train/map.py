"""Show how an encoder arranges the clips of some classes: t-SNE as picture and CSV, clusters as NMI.

    python train/map.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint
    python train/map.py --shards data/ntu60-xsub --checkpoint encoder.safetensors --actions 8,9,14 --features z
    python train/map.py --shards data/ntu60-xsub --baseline random --classes 20 --share 0.2 --subset train
    python train/map.py --shards data/ntu60-xsub --checkpoint runs/joint --join bone=runs/bone

An installed skelpipe needs no checkout: `python -m skelpipe.train.map --shards ...`.

With --join the features of several streams are one: each of length 1 and joined end to end, or added.
The classes are drawn by --seed alone, so that the same ones are shown for every method. NMI compares the labels
with k-means clusters, as many as classes, of the features and of their points in the picture (docs/evaluation.md).
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.door.answer import program
from skelpipe.train.running.named_paths import check_weights
from skelpipe.train.running.script_options import (
    WithEarlierName,
    check_network_options,
    check_room,
    common_options,
    dataset_script,
    features_option,
    network_options,
    overwrite_option,
)
from skelpipe.views import VIEWS

__all__ = ["main"]


def _parse_actions(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(text) for text in (value or "").split(",") if text.strip()))
    except ValueError:
        raise click.BadParameter("expected action numbers, such as --actions 8,9,14") from None


def _parse_streams(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    pairs = [value.partition("=") for value in values]
    for view, equals, run in pairs:
        if view not in VIEWS or not equals or not run:
            raise click.BadParameter(f"{view}{equals}{run}: expected VIEW=RUN with one of {', '.join(VIEWS)}")
    for _, _, run in pairs:
        check_weights(run)
    return tuple((view, run) for view, _, run in pairs)


@dataset_script("skelpipe map --shards data/ntu60-xsub --baseline random --classes 5")
@network_options(earlier_names=True)
@click.option(
    "--subset",
    "--split",
    "subset",
    cls=WithEarlierName,
    type=click.Choice(["train", "test"]),
    default="test",
    show_default=True,
    help="Subset to show.",
)
@features_option("h")
@click.option(
    "--classes",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of classes to show, drawn by --seed; without labels, number of clusters.",
)
@click.option(
    "--actions", metavar="A[,A...]", callback=_parse_actions, help="Show these actions instead, numbered from 1."
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of each class's clips to show.",
)
@click.option(
    "--perplexity",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Perplexity of t-SNE.",
)
@click.option(
    "--join",
    multiple=True,
    metavar="VIEW=RUN",
    callback=_parse_streams,
    help="Another stream, whose features are joined to those of --checkpoint, such as bone=runs/bone.",
)
@click.option(
    "--fusion",
    type=click.Choice(["join", "sum"]),
    default="join",
    show_default=True,
    help="With --join: features of length 1 end to end, or their sum.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: runs/map-DATASET-VIEW-NAME].")
@overwrite_option
@common_options
def main(**given: Any) -> None:
    """Draw the embeddings of some classes and measure how well they cluster."""
    check_network_options(given)
    if given["out"] is not None:
        from skelpipe.train.evaluation.outcome_folder import OF_MAP, removable

        check_room(lambda: removable(given["out"], overwrite=given["overwrite"], also=OF_MAP))
    from skelpipe.train.commands.map import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main, ranks=True)
