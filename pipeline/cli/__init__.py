"""The `skelpipe` command. Commands import heavy packages only when they run, so that help answers at once."""

import click

from skelpipe import __version__
from skelpipe.cli.bench import bench
from skelpipe.cli.copy import copy
from skelpipe.cli.export import export
from skelpipe.cli.import_ import import_
from skelpipe.cli.info import info
from skelpipe.cli.prepare import prepare
from skelpipe.cli.show import show
from skelpipe.cli.stats import stats
from skelpipe.cli.synth import synth
from skelpipe.cli.verify import verify

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="skelpipe")
def main() -> None:
    """Turn raw skeleton recordings into datasets that training reads at memory speed."""


for _command in (synth, prepare, import_, stats, verify, info, show, copy, export, bench):
    main.add_command(_command)
