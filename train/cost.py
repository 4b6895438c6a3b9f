"""Count the weights of a recipe's networks and the operations of a step of its training; nothing is trained.

    python train/cost.py
    python train/cost.py --recipe msmclr --json
    python train/cost.py --recipe crosclr --set crosclr.views=2
    python train/cost.py --recipe skeattnclr --shards data/ntu60-xsub

An installed skelpipe needs no checkout: `python -m skelpipe.train.cost ...`.

Without --recipe all built-in recipes are counted. Operations are those of the forward passes of one step of the
recipe's batch in its last stage, on clips of two bodies: queries and keys, a multiplication with the addition that
follows as one, as in table 9 of MsMCLR.
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import json_option, other_shards_option, plugin_option, view_option
from skelpipe.door.answer import program
from skelpipe.train.running.script_options import check_room, overwrite_option, recipe_option, set_option

__all__ = ["main"]


@click.command(
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: skelpipe cost --recipe msmclr",
)
@recipe_option("pretraining", "What to count", "all of these")
@set_option("encoder.width=8")
@view_option
@other_shards_option("Dataset whose name the papers' figures are looked up for.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write result.json to [default: nowhere].")
@overwrite_option
@plugin_option
@json_option
def main(**given: Any) -> None:
    """Count weights and operations of pre-training by a recipe."""
    from skelpipe.train.recipes.asked import recipe_names
    from skelpipe.train.recipes.chosen import check_rows

    check_rows([given["recipe"]] if given["recipe"] else recipe_names(), given["settings"])
    if given["out"] is not None:
        from skelpipe.train.evaluation.outcome_folder import removable

        check_room(lambda: removable(given["out"], overwrite=given["overwrite"]))
    from skelpipe.train.commands.cost import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main)
