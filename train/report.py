"""Write a report of a run: one page for a browser, which needs no network.

    python train/report.py runs/linear-ntu60-xsub-joint-aimclr --shards data/ntu60-xsub
    python train/report.py runs/aimclr-ntu60-xsub-joint

An installed skelpipe needs no checkout: `python -m skelpipe.train.report RUN`.

RUN is the folder of an evaluation or of a pre-training, finished or not. With the dataset the page has drawings of
clips: clips of the hardest classes, and a clip before and after the recipe's augmentations.
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import cache_options, json_option, other_shards_option, plugin_option
from skelpipe.door.answer import program
from skelpipe.train.running.named_paths import check_run

__all__ = ["main"]


@click.command(
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: skelpipe report runs/skeletonclr-ntu60-xsub-joint --shards data/ntu60-xsub",
)
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@other_shards_option("The run's dataset, for drawings of clips [default: no drawings].")
@cache_options
@plugin_option
@json_option
def main(**given: Any) -> None:
    """Write report.html into the folder of a run."""
    check_run(str(given["folder"]))
    from skelpipe.train.commands.report import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main)
