"""Options that the scripts share, beside those of `skelpipe.cli.options`; nothing here imports torch.

Each means the same in all scripts: `--recipe` and `--set` say how what the script trains is trained, `--network`
and `--network-set` which recipe of pre-training a random network is built by.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import (
    cache_options,
    device_option,
    json_option,
    plugin_option,
    seed_option,
    several_shards_option,
    shards_option,
)
from skelpipe.errors import UsageError
from skelpipe.front.descriptions import counted
from skelpipe.train.recipes.asked import Kind, check_recipe, parsed_settings, recipe_names
from skelpipe.train.running.starter import weights_path
from skelpipe.views import VIEWS

__all__ = [
    "FILES",
    "WithEarlierName",
    "balanced_option",
    "check_file",
    "check_network_options",
    "check_room",
    "check_run_folder",
    "check_weight_each",
    "common_options",
    "dataset_script",
    "existing_weights",
    "features_option",
    "log_option",
    "network_options",
    "overwrite_option",
    "own_view_option",
    "recipe_option",
    "refuse_contradictions",
    "region_of_option",
    "region_option",
    "run_options",
    "save_features_option",
    "set_option",
    "start_option",
    "training_options",
    "weights_option",
]

F = TypeVar("F", bound=Callable[..., Any])
UNITS = {"s": 1, "min": 60, "h": 3600}  # seconds
FILES = "Run folder, encoder.safetensors, classifier.safetensors, checkpoint, released file or starter"


def existing_weights(_ctx: click.Context, _param: click.Parameter, source: Any) -> Any:
    """Return the path of a run or file, or of several; say, before torch is imported, which holds no weights."""
    if source:
        from skelpipe.train.running.named_paths import check_weights

        paths = tuple(weights_path(each) for each in ((source,) if isinstance(source, str) else source))
        for path in paths:
            check_weights(path)
        return paths[0] if isinstance(source, str) else paths
    return source


def check_room(check: Callable[[], object]) -> None:
    """Check, before torch is imported, that `--out` may be written to.

    Of several ranks only the first one looks, as the others might find what it has begun by then. What cannot be
    looked at is said when it is to be written.
    """
    if os.environ.get("RANK", "0") == "0":
        with suppress(OSError):
            check()


def check_run_folder(given: Mapping[str, Any]) -> None:
    """Check so that `--out` has room for a run."""
    if given["out"] is not None:
        from skelpipe.train.running.run_folder import RunFolder

        folder = RunFolder(given["out"])
        check_room(lambda: folder.check(resume=given["resume"], overwrite=given["overwrite"]))


def check_weight_each(shards: Sequence[str], weights: Sequence[float]) -> None:
    """Raise UsageError where there are weights, and not one for each dataset."""
    if weights and len(weights) != len(shards):
        raise UsageError(
            f"--shards names {counted(len(shards), 'dataset')} and --weight {counted(len(weights), 'weight')}: "
            "give one for each --shards, in the same order"
        )


def check_file(out: Path, *, overwrite: bool) -> None:
    """Raise UsageError where a file is there that may not be replaced."""
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: is there already: pass --overwrite or another --out")


def check_network_options(given: Mapping[str, Any]) -> None:
    """Say, before torch is imported, that the options name nothing to evaluate, or contradict each other."""
    checkpoint, baseline, settings = given["checkpoint"], given["baseline"], given["network_settings"]
    refuse_contradictions(checkpoint, baseline, given["network"], settings, given.get("region"))
    if given["network"] is not None or settings:
        from skelpipe.train.recipes.chosen import check_network

        check_network(given)


def refuse_contradictions(
    checkpoint: str | None,
    baseline: str | None,
    network: str | None,
    settings: Sequence[str],
    region: str | None,
) -> None:
    """Raise UsageError where the options of a network contradict each other, or name none."""
    if settings and baseline != "random":
        raise UsageError("--network-set changes the recipe of a random network: it needs --baseline random")
    if region is not None and (baseline is not None or checkpoint is None):
        raise UsageError("--region needs the trained networks of an actclr run: name it with --checkpoint alone")
    if baseline == "raw" and (checkpoint or network):
        raise UsageError("--baseline raw evaluates coordinates: it takes neither --checkpoint nor --network")
    if checkpoint is None and baseline is None:
        raise UsageError("name what to evaluate: --checkpoint RUN, --baseline random or --baseline raw")
    if checkpoint is not None and network is not None:
        raise UsageError("--network describes a random network; a checkpoint brings its own")


def weights_option(words: str, *, default: str | None = None) -> Callable[[F], F]:
    """Return what gives a command `checkpoint`, the path of a run or file that exists; `words` are its help."""
    return click.option(
        "--checkpoint",
        metavar="RUN|FILE",
        default=default,
        show_default=default is not None,
        callback=existing_weights,
        help=words,
    )


start_option = weights_option(f"{FILES} to start from [default: from scratch].")
own_view_option = click.option(
    "--view", type=click.Choice(list(VIEWS)), help="View to read [default: the checkpoint's, else joint]."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation in that folder.")
balanced_option = click.option(
    "--balanced", is_flag=True, help="Draw all classes equally often in every epoch, however many clips they have."
)
region_option = click.option(
    "--region",
    type=click.Choice(["actionlet", "non-actionlet"]),
    help="Features of the actionlet alone, or of the rest, by the key network of an ActCLR run.",
)
region_of_option = click.option(
    "--region-of",
    type=click.Choice(["features", "clips"]),
    default="features",
    show_default=True,
    help="Whether --region cuts the feature map, or the clips, which are the static anchor elsewhere.",
)
save_features_option = click.option(
    "--save-features", is_flag=True, help="Write the features of both subsets there as well, as Parquet."
)
_checkpoint = weights_option(f"{FILES}.")
_baseline = click.option(
    "--baseline",
    type=click.Choice(["random", "raw"]),
    help="Evaluate a new random network (by the checkpoint's recipe, if one is given), or raw coordinates.",
)


def _counted(_ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    """Say of a number below 1, before torch is imported, what the recipe says of it."""
    if value is not None and value < 1:
        raise UsageError(f"{param.opts[0]}: {param.name} is {value}; it must be at least 1")
    return value


_epochs = click.option("--epochs", type=int, callback=_counted, help="Override the recipe's epochs.")
_batch_size = click.option("--batch-size", type=int, callback=_counted, help="Override the recipe's batch size.")
_rate = click.option("--lr", type=float, help="Override the recipe's learning rate.")


def _asked(_ctx: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> None:
    if names:
        from skelpipe.train.running.run_loggers import ask_for_loggers

        ask_for_loggers(names)


def _checked_settings(_ctx: click.Context, param: click.Parameter, settings: tuple[str, ...]) -> tuple[str, ...]:
    """Say what is wrong with KEY=VALUE before torch is imported; which keys there are, the recipe tells."""
    parsed_settings(settings, by=param.opts[0])
    return settings


def _checked_recipe(_ctx: click.Context, _param: click.Parameter, name: str | None) -> str | None:
    check_recipe(name)
    return name


def dataset_script(example: str, *, several: bool = False) -> Callable[[Callable[..., Any]], click.Command]:
    """Return what makes a function a script with the options of the dataset to read; `example` ends its help.

    With `several` the script takes any number of datasets.
    """
    settings: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    make = click.command(cls=Command, context_settings=settings, epilog=f"Example: {example}")
    shards = several_shards_option if several else shards_option
    return lambda command: make(shards(cache_options(plugin_option(command))))


log_option = click.option(
    "--log",
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    multiple=True,
    expose_value=False,
    callback=_asked,
    help="Log to this program as well; again for several [default: only the run's JSON lines].",
)


def common_options(command: F) -> F:
    """Give a script `device`, `seed`, `as_json` and `--log`."""
    return log_option(device_option(seed_option(json_option(command))))


def run_options(command: F) -> F:
    """Give a script that trains `resume`, `overwrite`, `save_every` and `amp`."""
    resume = click.option("--resume", is_flag=True, help="Continue from the newest checkpoint, if there is one.")
    overwrite = click.option("--overwrite", is_flag=True, help="Delete the run that is there and start anew.")
    save = click.option(
        "--save-every",
        type=Interval(),
        default="10",
        show_default=True,
        help="Epochs between checkpoints, or the time, such as 90s, 30min or 2h: then also within an epoch.",
    )
    amp = click.option("--amp", is_flag=True, help="Compute in bfloat16 where that is safe.")
    return resume(overwrite(save(amp(command))))


def set_option(example: str) -> Callable[[F], F]:
    """Return what gives a script `settings`, texts that override values of its recipe."""
    words = f"Override a value of the recipe, such as {example}; the last one for a key counts."
    return click.option(
        "--set", "settings", metavar="KEY=VALUE", multiple=True, callback=_checked_settings, help=words
    )


def recipe_option(kind: Kind, words: str, default: str) -> Callable[[F], F]:
    """Return what gives a script `recipe`, the name or file of one of a `kind`; `default` is what None means."""

    def check(_ctx: click.Context, _param: click.Parameter, name: str | None) -> str | None:
        check_recipe(name, kind)
        return name

    known = ", ".join(recipe_names(kind))
    return click.option(
        "--recipe",
        metavar="NAME|FILE",
        callback=check,
        help=f"{words}: {known}, or a YAML file" + (f" [default: {default}]." if default else "."),
    )


class Interval(click.ParamType):
    """A number of epochs, at least 1, or a time such as 30min."""

    name = "EPOCHS|TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | timedelta:
        if isinstance(value, int | timedelta):
            return value
        if re.fullmatch(r"[0-9]+", value) and int(value) > 0:
            return int(value)
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(s|min|h)", value)
        if found is None or not float(found[1]):
            self.fail(f"{value!r} is neither a number of epochs nor a time such as 90s, 30min or 2h", param, ctx)
        return timedelta(seconds=float(found[1]) * UNITS[found[2]])


class WithEarlierName(click.Option):
    """An option whose second name, that of earlier versions, is accepted but not shown in the help."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        shown, earlier = self.opts
        return None if record is None else (record[0].replace(f"{shown}, {earlier}", shown), record[1])


def network_options(*, earlier_names: bool) -> Callable[[F], F]:
    """Return what gives a command the options of `NetworkOptions`, but for `--features` and `--seed`.

    With `earlier_names` also `--recipe` and `--set` describe the random network, as they did in the scripts that
    train nothing by a recipe.
    """
    recipe, settings = (["--recipe"], ["--set"]) if earlier_names else ([], [])
    kind = WithEarlierName if earlier_names else click.Option
    network = click.option(
        *("--network", *recipe, "network"),
        cls=kind,
        metavar="NAME|FILE",
        callback=_checked_recipe,
        help="Recipe of pre-training by which a random network is built [default: skeletonclr].",
    )
    network_settings = click.option(
        *("--network-set", *settings, "network_settings"),
        cls=kind,
        metavar="KEY=VALUE",
        multiple=True,
        callback=_checked_settings,
        help="Override a value of the random network's recipe, such as init=default.",
    )
    return lambda command: _checkpoint(_baseline(network(network_settings(own_view_option(command)))))


def features_option(default: str | None) -> Callable[[F], F]:
    """Return what gives a command `features`, h or z; without a default None, which `choose_network` settles."""
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
