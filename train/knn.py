"""Judge an encoder by its nearest neighbours: training clips vote on test clips, nothing is trained.

    python train/knn.py --shards data/ntu60-xsub --checkpoint runs/skeletonclr-ntu60-xsub-joint
    python train/knn.py --shards data/ntu60-xsub --checkpoint encoder.safetensors --k 1,5,20 --features h
    python train/knn.py --shards data/ntu60-xsub --baseline random
    python train/knn.py --shards data/ntu60-xsub --baseline raw --json

An installed skelpipe needs no checkout: `python -m skelpipe.train.knn --shards ...`.

Cosine similarity in float64, each neighbour voting with exp(similarity / temperature); no augmentation.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from torch import nn

from skelpipe.cli.options import device_option, errors_as_messages, json_option, seed_option, shards_option
from skelpipe.dataset import Dataset
from skelpipe.devices import resolve_device
from skelpipe.errors import DatasetError, UsageError
from skelpipe.train.features import embed
from skelpipe.train.identity import dataset_name
from skelpipe.train.monitor import knn_figures
from skelpipe.train.pretrained import (
    INITIALISERS,
    Networks,
    find_weights,
    initialised,
    load_networks,
    read_identity,
)
from skelpipe.train.recipe import Recipe, load_recipe, with_overrides
from skelpipe.train.released import check_fit, default_view, embedder, read_released
from skelpipe.train.runlog import Console
from skelpipe.views import VIEWS

__all__ = ["Subject", "main"]

PAPER_K = 20


@dataclass(frozen=True)
class Subject:
    """What is judged: a map from clips to features, the view it reads and how to call it.

    `recipe` is there when the network came out of pre-training: its paper's figures then have a meaning.
    """

    network: nn.Module
    name: str
    view: str
    features: str
    recipe: Recipe | None = None


def choose_subject(
    dataset: Dataset,
    *,
    checkpoint: str | None,
    baseline: str | None,
    recipe: str | None,
    settings: tuple[str, ...],
    view: str | None,
    features: str,
    seed: int,
    console: Console,
) -> Subject:
    """Return what the options ask to judge."""
    if settings and baseline != "random":
        raise UsageError("--set changes the recipe of a random network: it needs --baseline random")
    if baseline == "raw":
        if checkpoint or recipe:
            raise UsageError("--baseline raw judges coordinates: it takes neither --checkpoint nor --recipe")
        return Subject(nn.Flatten(), "raw coordinates", view or "joint", "raw")
    if checkpoint is None:
        if baseline is None:
            raise UsageError("say what to judge: --checkpoint RUN, --baseline random or --baseline raw")
        chosen = with_overrides(load_recipe(recipe or "skeletonclr"), settings)
        return _random(chosen, dataset, view or "joint", features, seed)
    if recipe is not None:
        raise UsageError("--recipe describes a random network; a checkpoint brings its own")
    path = find_weights(checkpoint, view)
    released = read_released(path)
    if released is not None:
        if baseline == "random":
            raise UsageError(
                f"{path}: is not of ours and has no recipe: pass --baseline random --recipe NAME alone"
            )
        view = view or default_view(released, console.say)
        check_fit(released, dataset, view, console.say)
        name = f"{released.method} as released ({path.name})"
        return Subject(embedder(released, view, features), name, view, features)
    identity, epoch = read_identity(path)
    view = view or identity.streams[0]
    if mismatches := identity.mismatches(dataset, view):
        raise UsageError(f"{path} does not fit {dataset.path}: {'; '.join(mismatches)}")
    if identity.profile != dataset.profile:
        console.say(f"trained on clips preprocessed as {identity.profile}, {dataset.path} is {dataset.profile}")
    if baseline == "random":
        return _random(with_overrides(identity.recipe, settings), dataset, view, features, seed)
    networks = load_networks(path, identity, dataset.layout, view)
    name = f"{identity.recipe.method}, {epoch} epochs on {identity.dataset}"
    return Subject(networks.embedder(features), name, view, features, identity.recipe)


def _random(recipe: Recipe, dataset: Dataset, view: str, features: str, seed: int) -> Subject:
    networks = Networks.of(initialised(recipe, dataset.layout, seed, view), view)
    name = f"random network, {INITIALISERS[recipe['init']]}, seed {seed}"
    return Subject(networks.embedder(features), name, view, features)


def judge(
    dataset: Dataset, subject: Subject, ks: tuple[int, ...], temperature: float, device: str, console: Console
) -> dict[str, Any]:
    """Embed both splits, classify the test clips; return what --json prints."""
    for split in ("train", "test"):
        if not dataset.count(split):
            raise DatasetError(f"{dataset.path}: the {split} split is empty: there is nothing to compare")
    place = resolve_device(device)
    network = subject.network.to(place)
    bank, queries = (
        embed(network, dataset, split, subject.view, device=place, quiet=False) for split in ("train", "test")
    )
    for k in ks:
        if k > len(bank.ids):
            console.say(f"k={k} is more than the {len(bank.ids)} training clips: all of them vote")
    figures = knn_figures(bank, queries, ks, temperature, len(dataset.classes), place)
    return {
        "what": subject.name,
        "dataset": dataset_name(dataset),
        "digest": dataset.digest,
        "view": subject.view,
        "features": subject.features,
        "temperature": temperature,
        "clips": {"train": len(bank.ids), "test": len(queries.ids)},
        "figures": figures,
        "chance": 100.0 / len(set(bank.labels.tolist())),
        "reported": _reported(dataset, subject),
    }


def _reported(dataset: Dataset, subject: Subject) -> dict[str, Any] | None:
    """Return the paper's figure for this dataset, split and view, and whether all its clips are here."""
    found = subject.recipe.figure("knn", subject.view, dataset_name(dataset)) if subject.recipe else None
    if found is None:
        return None
    published = dataset.card["published"]
    complete = bool(published) and all(dataset.count(side) == count for side, count in published.items())
    return {f"knn@{PAPER_K}": found[0], "source": found[1], "clips": dict(published), "complete": complete}


def _lines(result: dict[str, Any]) -> list[str]:
    clips = result["clips"]
    lines = [
        f"{result['what']}: {result['features']} features, {result['view']} view, "
        f"{clips['train']} training and {clips['test']} test clips of {result['dataset']}",
    ]
    reported = result["reported"] or {}
    for name, figure in result["figures"].items():
        line = f"{name:8} {figure:6.2f} %"
        if name in reported:
            line += f"   reported {reported[name]:.1f} % ({reported['source']}"
            published = reported["clips"]
            if published and not reported["complete"]:
                line += f"; on all {published['train']:,} + {published['test']:,} clips, which this dataset is not"
            line += ")"
        lines.append(line)
    lines.append(f"{'chance':8} {result['chance']:6.2f} %")
    return lines


def _parse_ks(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    try:
        ks = [int(text) for value in values for text in value.split(",")]
    except ValueError:
        raise click.BadParameter("expected whole numbers, such as --k 1,5,20") from None
    if not ks or min(ks) < 1:
        raise click.BadParameter("k must be at least 1")
    return tuple(dict.fromkeys(ks))


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: python train/knn.py --shards data/ntu60-xsub --baseline random",
)
@shards_option
@click.option(
    "--checkpoint", metavar="RUN|FILE", help="Run folder, encoder.safetensors, checkpoint or released file."
)
@click.option(
    "--baseline",
    type=click.Choice(["random", "raw"]),
    help="Judge a freshly initialised network (of the checkpoint's recipe, if one is given), or raw coordinates.",
)
@click.option("--recipe", metavar="NAME|FILE", help="The random network's recipe [default: skeletonclr].")
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a value of the random network's recipe.",
)
@click.option(
    "--view", type=click.Choice(list(VIEWS)), help="Stream to read [default: the checkpoint's, else joint]."
)
@click.option(
    "--features",
    type=click.Choice(["h", "z"]),
    default="z",
    show_default=True,
    help="Pooled feature h, or its projection z.",
)
@click.option(
    "--k",
    "ks",
    multiple=True,
    default=["20"],
    metavar="K[,K...]",
    callback=_parse_ks,
    help="Neighbours that vote, several at once [default: 20].",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    default=0.1,
    show_default=True,
    help="A vote weighs exp(similarity / temperature).",
)
@device_option
@seed_option
@json_option
@errors_as_messages
def main(
    shards: str,
    checkpoint: str | None,
    baseline: str | None,
    recipe: str | None,
    settings: tuple[str, ...],
    view: str | None,
    features: str,
    ks: tuple[int, ...],
    temperature: float,
    device: str,
    seed: int,
    as_json: bool,
) -> None:
    """Judge an encoder by weighted k-nearest neighbours."""
    console = Console()
    dataset = Dataset.open(Path(shards))
    subject = choose_subject(
        dataset,
        checkpoint=checkpoint,
        baseline=baseline,
        recipe=recipe,
        settings=settings,
        view=view,
        features=features,
        seed=seed,
        console=console,
    )
    result = judge(dataset, subject, ks, temperature, device, console)
    if as_json:
        click.echo(json.dumps(result))
    else:
        click.echo("\n".join(_lines(result)))


if __name__ == "__main__":
    main()
