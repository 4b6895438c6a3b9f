"""From synthetic recordings to an evaluated encoder, with the same commands as a real run.

    make demo
    python train/demo.py --out demo

Each step is printed as a command that can be repeated by hand. The figures at the end come from these commands.
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import seed_option
from skelpipe.door.answer import program
from skelpipe.train.running.script_options import check_room

__all__ = ["main"]


@click.command(
    cls=Command,
    epilog="Example: skelpipe demo --out demo",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder.")
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs of pre-training [default: the recipe's].")
@seed_option
def main(**given: Any) -> None:
    """Write synthetic recordings, prepare them, pre-train a small encoder and evaluate it.

    It takes a few minutes on two cores.
    """
    from skelpipe.train.running.named_paths import check_demo

    check_room(lambda: check_demo(given["out"]))
    from skelpipe.train.commands.demo import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main)
