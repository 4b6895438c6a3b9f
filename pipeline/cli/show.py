"""`skelpipe show`."""

import json
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from skelpipe.cli.command import Command
from skelpipe.cli.options import (
    cache_options,
    json_option,
    plugin_option,
    resolve_shards,
    seed_option,
    unresolved_shards_option,
    view_option,
)

if TYPE_CHECKING:
    from skelpipe.dataset import Dataset
    from skelpipe.drawing.actionlet_plot import Finder
    from skelpipe.drawing.augmented import Choice
    from skelpipe.drawing.scene import Scene
    from skelpipe.manifest import Manifest

__all__ = ["show"]

SUFFIXES = (".html", ".gif")
PICTURES = (".png", ".svg", ".pdf")  # of an actionlet
CHAINS = (
    *("normal", "aimclr-extreme", "msmclr-strong"),
    *("actclr-normal", "actclr-actionlet", "actclr-noise", "actclr-non-actionlet"),
)
MIXES = ("skelemix", "skeletonmix", "mats")


@click.command(
    cls=Command,
    epilog="Example: skelpipe show --shards data/ntu60-xsub --id S001C001P003R001A010 --out clip.html",
)
@click.argument("raw_file", required=False)
@unresolved_shards_option
@click.option(
    "--id", "identity", metavar="ID", help="Sample of the dataset [default: the first of the test subset]."
)
@view_option
@click.option("--out", metavar="FILE", help="Page (.html) or animation (.gif) to write [default: ID.html].")
@click.option(
    "--dataset",
    metavar="NAME",
    help="Dataset of RAW_FILE, or the .yaml of your own dataset [default: by the file's name].",
)
@click.option(
    "--augment",
    metavar="NAME|LIST",
    help="Draw the clip before and after this augmentation, and list its random parameters in words: "
    f"{', '.join((*CHAINS, *MIXES))}, or operators such as '[crop, {{shear: 0.3}}]'. With --recipe: a view of it.",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="Recipe, built in or a .yaml, whose view --augment names, such as --recipe aimclr --augment extreme.",
)
@click.option(
    "--checkpoint",
    metavar="RUN",
    help="With --augment mats: the run, or its file, whose network finds the actionlet. With --out FILE.png, .svg "
    "or .pdf anchor, activation and actionlet are drawn.",
)
@click.option(
    "--variant",
    type=click.Choice(["paper", "released"]),
    default="paper",
    show_default=True,
    help="The augmentation of the paper, or that of its released code.",
)
@click.option(
    "--epoch",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Epoch of the random parameters, from 0.",
)
@seed_option
@cache_options
@plugin_option
@json_option
def show(
    *,
    raw_file: str | None,
    shards: str | None,
    identity: str | None,
    view: str,
    out: str | None,
    dataset: str | None,
    augment: str | None,
    recipe: str | None,
    checkpoint: str | None,
    variant: str,
    epoch: int,
    seed: int,
    cache: Path | None,
    cache_size: int | None,
    as_json: bool,
) -> None:
    """Draw one clip as an interactive page, or as an animated GIF.

    The clip is a sample of a dataset, as stored, or RAW_FILE, in camera coordinates. With --augment it is drawn
    twice: as training reads it, and augmented as in training with this seed and epoch.
    """
    from skelpipe.errors import UsageError

    if checkpoint is not None and augment != "mats" and recipe is None:
        raise UsageError("--checkpoint is for the actionlet of --augment mats")
    pictured = out is not None and Path(out).suffix.lower() in PICTURES
    if checkpoint is not None and pictured and recipe is not None:
        raise UsageError(f"--out {out}: a picture shows the actionlet of --augment mats, not a view of --recipe")
    suffixes = SUFFIXES if checkpoint is None else (*SUFFIXES, *PICTURES)
    if out is not None and Path(out).suffix.lower() not in suffixes:
        raise UsageError(f"--out {out}: a clip is drawn as {' or '.join(suffixes)}")
    if raw_file is not None and identity is not None:
        raise UsageError("give a raw file, or --id for a sample of a dataset, not both")
    if raw_file is None and dataset is not None:
        raise UsageError("--dataset is for a raw file, and none is given; --shards names a prepared dataset")
    opened = partial(_dataset, shards, cache, cache_size)
    if checkpoint is not None and out is not None and pictured:
        _draw_actionlet(opened(), identity, view, checkpoint, out, as_json)
        return
    if augment is None:
        _refuse_without_augment()
        scene = _scene(raw_file, dataset, opened, identity, view)
    else:
        choice = _choice(augment, recipe, variant, seed, epoch)
        scene = _compared(raw_file, dataset, opened, identity, view, choice, checkpoint)
    path = Path(out if out is not None else re.sub(r"[^\w.-]", "_", scene.id) + ".html")
    if path.suffix.lower() == ".gif":
        from skelpipe.drawing.gif import write_gif

        write_gif(scene, path, quiet=as_json)
    else:
        from skelpipe.drawing.page import write_page

        write_page(scene, path)
    size = path.stat().st_size
    content = {
        "out": str(path),
        "bytes": size,
        "id": scene.id,
        "class": scene.class_name or None,
        "view": view,
        "frames": scene.frames,
        "bodies": len(scene.panels[0].bodies),
        "rate": scene.rate,
        "augment": augment,
        "facts": dict(scene.facts),
    }
    if as_json:
        click.echo(json.dumps(content))
        return
    click.echo(f"{path}: {scene.title}, {size / 1e3:,.0f} kB")
    longest = max(map(len, scene.facts))
    for name, fact in scene.facts.items():
        click.echo(f"  {name:<{longest}}  {fact}")


def _choice(augment: str, recipe: str | None, variant: str, seed: int, epoch: int) -> "Choice":
    from skelpipe.drawing.augmented import Choice
    from skelpipe.errors import UsageError

    if recipe is None:
        return Choice(augment, variant, seed, epoch)
    from skelpipe.loader.recipe_views import read_recipe_views

    if click.get_current_context().get_parameter_source("variant") is not ParameterSource.DEFAULT:
        raise UsageError("--variant is for an augmentation by name; a recipe says its variant itself")
    return Choice(augment, variant, seed, epoch, read_recipe_views(recipe))


def _dataset(shards: str | None, cache: Path | None, cache_size: int | None) -> "Dataset":
    from skelpipe.dataset import Dataset

    return Dataset.open(resolve_shards(shards), cache=cache, cache_size=cache_size)


def _scene(
    raw_file: str | None, dataset: str | None, opened: "Callable[[], Dataset]", identity: str | None, view: str
) -> "Scene":
    from skelpipe.drawing import sources

    if raw_file is not None:
        return sources.raw_scene(raw_file, _manifest(raw_file, dataset), view)
    return sources.dataset_scene(opened(), identity, view)


def _compared(
    raw_file: str | None,
    dataset: str | None,
    opened: "Callable[[], Dataset]",
    identity: str | None,
    view: str,
    choice: "Choice",
    checkpoint: str | None,
) -> "Scene":
    from skelpipe.drawing import compared
    from skelpipe.errors import UsageError

    if raw_file is not None:
        if checkpoint is not None:
            raise UsageError("--checkpoint finds the actionlet of a prepared clip: give --shards, not a raw file")
        return compared.compared_raw_scene(raw_file, _manifest(raw_file, dataset), view, choice)
    dataset_opened = opened()
    if checkpoint is not None and not choice.finds_actionlet(dataset_opened.layout, view):
        raise UsageError(f"--checkpoint finds an actionlet, and the view {choice.name} has none: leave it out")
    actionlet = None if checkpoint is None else _trained(checkpoint, dataset_opened, view)
    return compared.compared_scene(dataset_opened, identity, view, choice, actionlet)


def _trained(checkpoint: str, dataset: "Dataset", view: str) -> "Finder":
    """Return what finds actionlets by a trained network.

    Networks and runs are built on the command line, not below it: they are looked up where they are asked for.
    """
    found: Finder = import_module("skelpipe.train.running.trained_actionlet").trained_actionlet(
        checkpoint, dataset, view
    )
    return found


def _draw_actionlet(
    dataset: "Dataset", identity: str | None, view: str, checkpoint: str, out: str, as_json: bool
) -> None:
    from skelpipe.drawing.actionlet_plot import draw_actionlet

    sample = draw_actionlet(dataset, identity, view, _trained(checkpoint, dataset, view), out)
    size = Path(out).stat().st_size
    content = {"out": out, "bytes": size, "id": sample, "view": view, "augment": "mats"}
    click.echo(json.dumps(content) if as_json else f"{out}: actionlet of {sample}, {size / 1e3:,.0f} kB")


def _manifest(raw_file: str, dataset: str | None) -> "Manifest":
    from skelpipe.drawing.sources import manifest_for
    from skelpipe.manifest_file import load_manifest

    return load_manifest(dataset) if dataset is not None else manifest_for(raw_file)


def _refuse_without_augment() -> None:
    from skelpipe.errors import UsageError

    context = click.get_current_context()
    for name in ("recipe", "variant", "epoch", "seed"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{name} is for an augmentation: name one with --augment")
