"""Run what a table of a paper needs, and print the table with the paper's and the measured figures.

    python train/reproduce.py --paper aimclr --table linear --shards-root data --dry-run
    python train/reproduce.py --paper aimclr --table linear --shards-root data --dataset ntu60-xsub
    python train/reproduce.py --paper skelemixclr --table semi-1 --shards-root data --streams joint,bone,motion
    python train/reproduce.py --paper actclr --table transfer --shards-root data --method all

An installed skelpipe needs no checkout: `python -m skelpipe.train.reproduce --paper ...`.

Datasets are folders of any name in the root: each row takes the one whose card names its dataset, its split and
the frames of its paper; --frames takes another length, which the table then says. Each part of the work is one
command, with its run in OUT/runs and its record in OUT/parts. Finished parts are not run again, and interrupted
ones continue.
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import device_option, is_no_folder, json_option, plugin_option, seed_option
from skelpipe.door.answer import program
from skelpipe.errors import UsageError
from skelpipe.train.papers.tables import builtin_papers, chosen_recipes, load_paper
from skelpipe.train.recipes.asked import parsed_settings
from skelpipe.views import VIEWS

__all__ = ["main"]


def _streams(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    streams = tuple(dict.fromkeys(text.strip() for text in value.split(",")))
    if unknown := [name for name in streams if name not in VIEWS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(VIEWS)}")
    return streams


@click.command(
    cls=Command,
    advice="finished parts are kept, the same command goes on",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: skelpipe reproduce --paper aimclr --table linear --shards-root data --dry-run",
)
@click.option(
    "--paper", "name", metavar="NAME|FILE", required=True, help=f"{', '.join(builtin_papers())}, or a YAML file."
)
@click.option(
    "--table",
    "key",
    metavar="NAME",
    required=True,
    help="Such as linear, knn, finetune, semi-1, transfer.",
)
@click.option(
    "--shards-root",
    "root",
    metavar="URL",
    required=True,
    help="Folder or URL with the datasets, found by their cards. SKELPIPE_CACHE names a cache for a URL.",
)
@click.option(
    "--dataset", "wanted", multiple=True, metavar="NAME-SPLIT", help="Dataset to run [default: all found]."
)
@click.option(
    "--frames",
    type=click.IntRange(min=2),
    help="Run on datasets of so many frames, whatever the paper's; the table says so [default: the paper's].",
)
@click.option(
    "--streams",
    default="joint,bone,motion",
    show_default=True,
    callback=_streams,
    help="Run rows of these views.",
)
@click.option(
    "--method", "methods", multiple=True, help="Run the rows of this recipe, or all [default: the paper's own]."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipes.")
@click.option(
    "--pretraining", multiple=True, metavar="NAME[=VALUE]", help="Option for train/pretrain.py, such as amp."
)
@click.option("--evaluation", multiple=True, metavar="NAME[=VALUE]", help="Option for the protocol's script.")
@click.option(
    "--ranks", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes, by torchrun."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True, help="Folder."
)
@click.option("--overwrite", is_flag=True, help="Replace runs with other settings.")
@click.option("--dry-run", is_flag=True, help="Print the commands without running them.")
@click.option(
    "--estimate/--no-estimate",
    "estimated",
    default=None,
    help="Time a few steps and estimate hours and disk first [default: before running, not for --dry-run].",
)
@device_option
@seed_option
@plugin_option
@json_option
def main(**given: Any) -> None:
    """Run what a table of a paper needs, and print the table with the paper's and the measured figures.

    After an interruption, give the same command again: it continues, and what is finished is not run again.
    """
    if "frames" in parsed_settings(given["settings"]):
        raise UsageError("--set frames: the frames are those of the dataset: choose it with --frames")
    paper = load_paper(given["name"])
    table = paper.table(given["key"])
    chosen_recipes(paper, table, given["methods"])
    if not is_no_folder(given["root"]) and not Path(given["root"]).is_dir():
        raise UsageError(f"--shards-root {given['root']}: there is no such folder")
    if given["settings"]:
        from skelpipe.train.recipes.chosen import check_rows

        check_rows(dict.fromkeys(row.recipe or "supervised" for row in table.rows), given["settings"])
    from skelpipe.train.commands.reproduce import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main)
