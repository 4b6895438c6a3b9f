"""Write a page to browse datasets and runs: one file for a browser, which needs no network.

    python train/browse.py data/ntu60-xsub
    python train/browse.py data/ntu60-xsub runs/linear-ntu60-xsub-joint-aimclr --out mistakes.html
    python train/browse.py runs/*

An installed skelpipe needs no checkout: `python -m skelpipe.train.browse DATASET RUN`.

Each argument is a dataset (a folder or URL) or the folder of a run: a pre-training, a training with labels or an
evaluation, finished or not. The page has the clips, moving, by class, subset, subject and, of evaluations of these
clips, mistake; and the curves and figures of all runs on the same charts.
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import cache_options, json_option, plugin_option, seed_option
from skelpipe.door.answer import program
from skelpipe.train.running.named_paths import check_source

__all__ = ["main"]


@click.command(
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: skelpipe browse data/ntu60-xsub runs/linear-ntu60-xsub-joint-aimclr",
)
@click.argument("sources", metavar="DATASET|RUN...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default="browse.html", show_default=True, help="File to write."
)
@click.option(
    "--clips",
    "limit",
    type=click.IntRange(min=1),
    default=400,
    show_default=True,
    help="Most clips on the page, from all classes alike; each takes about 5 kB.",
)
@seed_option
@cache_options
@plugin_option
@json_option
def main(**given: Any) -> None:
    """Write one local page of datasets and runs: moving clips with filters, curves and figures."""
    for source in given["sources"]:
        check_source(source)
    from skelpipe.train.commands.browse import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main)
