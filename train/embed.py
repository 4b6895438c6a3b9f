"""Write the embeddings of recordings: raw files, folders, archives and URLs, or the clips of a dataset.

    python train/embed.py recordings/ --checkpoint runs/aimclr-ntu60-xsub-joint --out embeddings.parquet
    python train/embed.py a.skeleton https://host/b.zip --checkpoint encoder.safetensors --out embeddings.npz
    python train/embed.py --shards data/ntu60-xsub --subset test --checkpoint runs/joint --out test.parquet

An installed skelpipe needs no checkout: `python -m skelpipe.train.embed --checkpoint ...`.

Recordings are preprocessed as the weights were trained; `skelpipe.Encoder` gives bit-identical numbers. Neither
labels nor a dataset are needed. The picture of t-SNE is drawn by train/map.py.
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import cache_options, device_option, json_option, other_shards_option, plugin_option
from skelpipe.door.answer import program
from skelpipe.errors import UsageError
from skelpipe.train.running.script_options import FILES, check_file, features_option, weights_option
from skelpipe.train.running.starter import STARTER
from skelpipe.views import VIEWS

__all__ = ["main"]

SUFFIXES = (".parquet", ".npz")  # those of Embeddings.write, which imports torch
OF_MAP = (
    *("--actions", "--baseline", "--classes", "--fusion", "--join", "--network", "--perplexity", "--seed"),
    *("--share", "--split"),
)
MAP = "the picture of t-SNE and its NMI are those of `skelpipe map`"


class EmbedCommand(Command):
    """Names the command that has the options which this one had in earlier versions."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in OF_MAP:
                raise
            raise click.UsageError(f"there is no option {error.option_name} here: {MAP}", ctx) from None


def _check_out(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path:
    if value is None:
        raise click.UsageError(f"--out is missing: name the file to write, .parquet or .npz; {MAP}")
    if value.suffix.lower() not in SUFFIXES:
        raise click.BadParameter(f"{value}: a file ends in .parquet or .npz")
    return value


@click.command(
    cls=EmbedCommand,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: skelpipe embed recordings/ --checkpoint runs/aimclr-ntu60-xsub-joint --out embedded.npz",
)
@click.argument("recordings", nargs=-1, metavar="[RAW...]")
@weights_option(f"{FILES}.", default=STARTER)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_check_out,
    help="File to write, .parquet or .npz: one row per clip. Its folder is made.  [required]",
)
@other_shards_option("Dataset whose clips are embedded instead of raw files.")
@click.option(
    "--subset",
    type=click.Choice(["train", "test"]),
    help="With --shards, the subset [default: all clips].",
)
@click.option(
    "--dataset", metavar="NAME|FILE", help="Manifest by which raw files are read [default: that of the training]."
)
@click.option("--view", type=click.Choice(list(VIEWS)), help="View [default: the checkpoint's, else joint].")
@features_option("h")
@click.option("--skip-bad", is_flag=True, help="Leave damaged recordings out and say so, instead of stopping.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@cache_options
@device_option
@plugin_option
@json_option
def main(**given: Any) -> None:
    """Write the embeddings of raw files, folders, archives and URLs, or of a dataset."""
    if bool(given["recordings"]) == (given["shards"] is not None):
        raise UsageError("name either raw files, folders, archives or URLs, or a dataset with --shards")
    if given["shards"] is None and (given["subset"] or given["cache"]):
        raise UsageError("--subset and --cache are about the dataset that --shards names")
    check_file(given["out"], overwrite=given["overwrite"])
    from skelpipe.train.commands.embed import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main)
