"""The work of `train/pretrain.py`, where it is described, once the options are checked."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from skelpipe.dataset import Dataset, JoinedDataset
from skelpipe.dataset.joined import shared_ids
from skelpipe.devices import resolve_device
from skelpipe.errors import DatasetError, UsageError
from skelpipe.front.descriptions import counted
from skelpipe.loader.stream import epoch_size
from skelpipe.plugins import used
from skelpipe.raw.web_shards import is_web_shard
from skelpipe.skeleton import named_layout
from skelpipe.storage import shown_url
from skelpipe.train.papers.reported import reported_knn, reported_text
from skelpipe.train.recipes.chosen import choose_recipe
from skelpipe.train.recipes.reader import with_overrides
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.provenance import ClipFacts, Provenance
from skelpipe.train.running.ranks import together
from skelpipe.train.running.run import RunOptions
from skelpipe.train.running.run_log import Console
from skelpipe.train.running.script_options import check_weight_each
from skelpipe.train.training.pretraining import pretrain

__all__ = ["fit_recipe", "run"]


@dataclass(frozen=True)
class PretrainOptions:
    """The command line, one field per option; None where the recipe decides."""

    shards: tuple[str, ...]
    weight: tuple[float, ...]
    cache: Path | None
    cache_size: int | None
    method: str | None
    recipe: str | None
    checkpoint: str | None
    with_keys: bool
    view: str
    epochs: int | None
    batch_size: int | None
    lr: float | None
    settings: tuple[str, ...]
    out: Path | None
    resume: bool
    overwrite: bool
    save_every: int | timedelta
    knn_every: int
    amp: bool
    compile: bool
    cuda_graph: bool
    loader: str
    test_shards: tuple[str, ...]
    layout: str | None
    axes: str | None
    channels: str | None
    array: str
    label: str
    bodies: int | None
    batch_norm: str
    device: str
    seed: int
    as_json: bool


def open_datasets(asked: PretrainOptions) -> Dataset:
    """Open the dataset, or join several; UsageError where what was asked for does not fit together."""
    of_others = {
        "--test-shards": asked.test_shards,
        "--layout": asked.layout,
        "--axes": asked.axes,
        "--channels": asked.channels,
        "--array": asked.array,
        "--label": asked.label,
        "--bodies": asked.bodies,
    }
    if given := next((name for name, value in of_others.items() if value), None):
        dataset, _ = shown_url(asked.shards[0])  # without secrets
        raise UsageError(f"{given} is for shards that others wrote; {dataset} is a dataset, which says it itself")
    weights = asked.weight or None
    check_weight_each(asked.shards, asked.weight)
    if len(asked.shards) > 1 and asked.loader == "webdataset":
        raise UsageError("webdataset reads one dataset: several are read with --loader native")
    parts = [Dataset.open(each, cache=asked.cache, cache_size=asked.cache_size) for each in asked.shards]
    if len(parts) == 1 and weights and weights != (1.0,):
        raise UsageError("--weight is for several datasets: an epoch of a single one has every clip once")
    return parts[0] if len(parts) == 1 else JoinedDataset(parts, weights)


def open_foreign(asked: PretrainOptions, recipe: PretrainRecipe) -> Dataset:
    """Return shards that others wrote as a dataset; UsageError where the command does not say what they hold."""
    from skelpipe.foreign import ForeignShards, ShardForm
    from skelpipe.manifest_file import axis_letters, channel_names
    from skelpipe.raw.web_shards import WebFields

    if not all(map(is_web_shard, asked.shards)):
        raise UsageError("--shards names tars and a dataset: give tars alone, or import them by skelpipe import")
    if asked.loader != "webdataset":
        raise UsageError("tars of others are read with --loader webdataset, or import them by skelpipe import")
    if asked.layout is None:
        raise UsageError("give --layout, the layout of the joints in these shards, such as --layout kinect-v2-25")
    if asked.weight:
        raise UsageError("--weight is for several datasets: an epoch of shards has every clip once")
    form = ShardForm(
        named_layout(asked.layout),
        recipe.frames,
        WebFields(asked.array, asked.label),
        axis_letters(asked.axes, f"--axes {asked.axes}") if asked.axes else (),
        channel_names(asked.channels.replace(",", " ").split(), "--channels") if asked.channels else (),
        asked.bodies,
    )
    return ForeignShards({"train": asked.shards, "test": asked.test_shards}, form)


def say_what_looks_wrong(dataset: Dataset, say: Callable[[str], None]) -> None:
    """Report recordings that are in both subsets, and what looks wrong in shards of others."""
    for note in getattr(dataset, "notes", ()):
        say(note)
    if shared := shared_ids(dataset):
        say(
            f"{shared:,} of {dataset.count('test'):,} recordings of the test subset have the id of one of the"
            " train subset: if they are the same recordings, figures on the test subset are too high"
        )


def fit_recipe(recipe: PretrainRecipe, dataset: Dataset, say: Callable[[str], None]) -> PretrainRecipe:
    """Return the recipe adapted to this dataset; each value that changes is reported in one line."""
    if not dataset.count("train"):
        raise DatasetError(f"{dataset.path}: the train subset is empty, there is nothing to train on")
    count, frames = epoch_size(dataset, "train"), dataset.shape[1]
    if frames != recipe.frames:
        say(f"the recipe trains on {recipe.frames} frames, {dataset.path} has {frames}: training on {frames}")
    if count < recipe.batch_size:
        say(f"batch_size {recipe.batch_size} lowered to {count}: the train subset has no more clips")
    if (queue := getattr(recipe.settings, "queue", 0)) > (clips := dataset.count("train")):
        say(f"the queue of {queue} is larger than the {clips} training clips: it holds a clip's own keys")
    return replace(recipe, frames=frames, batch_size=min(recipe.batch_size, count))


@together
def run(**given: Any) -> None:
    """Do what the command asks for."""
    asked = PretrainOptions(**given)
    console = Console()
    recipe = choose_recipe(asked.method, asked.recipe)
    recipe = with_overrides(recipe, asked.settings, epochs=asked.epochs, batch_size=asked.batch_size, lr=asked.lr)
    foreign = any(map(is_web_shard, asked.shards))
    dataset = open_foreign(asked, recipe) if foreign else open_datasets(asked)
    if foreign or len(asked.shards) > 1:
        say_what_looks_wrong(dataset, console.say)
    recipe = fit_recipe(recipe, dataset, console.say)
    provenance = Provenance(
        clips=ClipFacts.of(dataset),
        view=asked.view,
        views=(asked.view,),
        recipe=recipe,
        seed=asked.seed,
        amp=asked.amp,
        compiled=asked.compile,
        plugins=used(recipe.plugins),
    )
    options = RunOptions(
        out=asked.out or Path("runs") / f"{recipe.method}-{provenance.clips.dataset}-{asked.view}",
        device=resolve_device(asked.device),
        resume=asked.resume,
        overwrite=asked.overwrite,
        save_every=asked.save_every,
        measure_every=asked.knn_every,
        reader=asked.loader,
        batch_norm=asked.batch_norm,
        cuda_graph=asked.cuda_graph,
    )
    summary = pretrain(dataset, provenance, options, console, start=asked.checkpoint, with_keys=asked.with_keys)
    summary["reported"] = reported_knn(provenance, dataset)
    if asked.as_json:
        click.echo(json.dumps(summary))
    else:
        measured = summary["figures"].items()
        figures = "".join(f", {name} {value:.1f} %{reported_text(summary, name)}" for name, value in measured)
        loss = "" if summary["loss"] is None else f", loss {summary['loss']:.4f}"
        click.echo(f"{summary['run']}: {counted(summary['epochs'], 'epoch')}{loss}{figures}")
        if not dataset.is_prepared:
            return  # evaluations read datasets
        shards, stripped = shown_url(asked.shards[0])
        protocol = "knn" if dataset.labelled else "map"
        evaluate = ["skelpipe", protocol, "--shards", shards, "--checkpoint", summary["run"]]
        if asked.cache is not None:
            evaluate += ["--cache", str(asked.cache)]
        again = " (the URL with its secret again)" if stripped else ""
        click.echo(f"evaluate it with{again}: {shlex.join(evaluate)}")
