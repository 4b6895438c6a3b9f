"""Options that the evaluation scripts share, beside those of `skelpipe.cli.options`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from skelpipe.views import VIEWS

__all__ = [
    "baseline_option",
    "checkpoint_option",
    "features_option",
    "overwrite_option",
    "own_view_option",
    "save_features_option",
    "start_option",
    "subject_options",
    "training_options",
]

F = TypeVar("F", bound=Callable[..., Any])
FILES = "Run folder, encoder.safetensors, classifier.safetensors, checkpoint or released file"

checkpoint_option = click.option("--checkpoint", metavar="RUN|FILE", help=f"{FILES}.")
start_option = click.option(
    "--checkpoint", metavar="RUN|FILE", help=f"{FILES} to start from [default: from scratch]."
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
_random_recipe = click.option(
    "--recipe", metavar="NAME|FILE", help="The random network's recipe [default: skeletonclr]."
)
_random_settings = click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Override a value of that recipe."
)
_epochs = click.option("--epochs", type=int, help="Override the recipe's epochs.")
_batch_size = click.option("--batch-size", type=int, help="Override the recipe's batch size.")
_rate = click.option("--lr", type=float, help="Override the recipe's learning rate.")


def subject_options(command: F) -> F:
    """Give a command `checkpoint`, `baseline`, `recipe`, `settings` and `view`, as `choose_subject` takes them."""
    return checkpoint_option(baseline_option(_random_recipe(_random_settings(own_view_option(command)))))


def features_option(default: str | None) -> Callable[[F], F]:
    """Return what gives a command `features`, h or z; without a default None, which `choose_subject` settles."""
    return click.option(
        "--features",
        type=click.Choice(["h", "z"]),
        default=default,
        show_default=default is not None,
        help="Pooled feature h, or its projection z"
        + ("." if default else " [default: z; h where a checkpoint has no projection head]."),
    )


def training_options(command: F) -> F:
    """Give a command `epochs`, `batch_size` and `lr`, which override a recipe's where they are not None."""
    return _epochs(_batch_size(_rate(command)))
