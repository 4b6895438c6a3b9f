"""Fuse the scores of several streams, joined by sample id, and evaluate the sum.

    python train/fuse.py runs/linear-ntu60-xsub-joint runs/linear-ntu60-xsub-bone runs/linear-ntu60-xsub-motion
    python train/fuse.py joint/scores.parquet motion/scores.parquet --weights joint=0.6,motion=0.4
    python train/fuse.py runs/a runs/b runs/c runs/d --weights 1,1,0.5,0.5 --json

An installed skelpipe needs no checkout: `python -m skelpipe.train.fuse ...`.

Raw scores are multiplied by the stream's weight and added. The weights of all papers are tried (divergence
`fusion-weights`); the result is that of --weights, or else of AimCLR's weights (for SkeleMixCLR of its own, which
are equal).
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import cache_options, json_option, other_shards_option, plugin_option
from skelpipe.door.answer import program
from skelpipe.errors import UsageError
from skelpipe.train.evaluation.stream_weights import check_count
from skelpipe.train.running.named_paths import check_scores
from skelpipe.train.running.script_options import check_room, log_option, overwrite_option

__all__ = ["main"]


@click.command(
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: skelpipe fuse runs/joint runs/motion --weights joint=0.6,motion=0.4",
)
@click.argument("sources", nargs=-1, required=True, metavar="RUN|SCORES...")
@click.option(
    "--weights", "given", metavar="LIST", help="VIEW=WEIGHT,..., or weights in the order of the streams."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: runs/PROTOCOL-DATASET-3s-NAME].")
@overwrite_option
@other_shards_option(
    "The scores' dataset, to draw clips of in the report [default: the one with their digest at "
    "$SKELPIPE_SHARDS, here or under data/, if any]."
)
@cache_options
@log_option
@plugin_option
@json_option
def main(**given: Any) -> None:
    """Fuse the scores that evaluations of several streams wrote."""
    if len(given["sources"]) < 2:
        raise UsageError("name the folders or scores.parquet files of at least two streams")
    for source in given["sources"]:
        check_scores(source)
    if given["given"] is not None:
        check_count(given["given"], len(given["sources"]))
    if given["out"] is not None:
        from skelpipe.train.evaluation.outcome_folder import removable

        check_room(lambda: removable(given["out"], overwrite=given["overwrite"]))
    from skelpipe.train.commands.fuse import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main)
