"""Options that the evaluation scripts share, beside those of `skelpipe.cli.options`."""

import click

from skelpipe.views import VIEWS

__all__ = [
    "baseline_option",
    "checkpoint_option",
    "overwrite_option",
    "own_view_option",
    "save_features_option",
]

checkpoint_option = click.option(
    "--checkpoint", metavar="RUN|FILE", help="Run folder, encoder.safetensors, checkpoint or released file."
)
baseline_option = click.option(
    "--baseline",
    type=click.Choice(["random", "raw"]),
    help="Judge a freshly initialised network (of the checkpoint's recipe, if one is given), or raw coordinates.",
)
own_view_option = click.option(
    "--view", type=click.Choice(list(VIEWS)), help="Stream to read [default: the checkpoint's, else joint]."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation in that folder.")
save_features_option = click.option(
    "--save-features", is_flag=True, help="Write both splits' features there as well, as Parquet."
)
