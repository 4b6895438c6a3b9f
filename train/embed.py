"""Show how an encoder arranges the clips of some classes: t-SNE as picture and CSV, clusters as NMI.

    python train/embed.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint
    python train/embed.py --shards data/ntu60-xsub --checkpoint encoder.safetensors --actions 8,9,14 --features z
    python train/embed.py --shards data/ntu60-xsub --baseline random --classes 20 --share 0.2 --split train

An installed skelpipe needs no checkout: `python -m skelpipe.train.embed --shards ...`.

Spec E7: the classes are drawn by --seed alone, so that every method is shown the same ones. NMI compares the
labels with k-means clusters, as many as classes, of the features and of their places in the picture.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from skelpipe.cli.options import (
    cache_options,
    device_option,
    errors_as_messages,
    json_option,
    seed_option,
    shards_option,
)
from skelpipe.dataset import Dataset
from skelpipe.devices import resolve_device
from skelpipe.errors import DatasetError, UsageError
from skelpipe.files import replacing, write_json
from skelpipe.manifest import SUBSETS
from skelpipe.train.evaluation.clusters import (
    PERPLEXITY,
    cluster,
    draw_classes,
    normalised_mutual_information,
    plane,
    usable_perplexity,
)
from skelpipe.train.evaluation.embedding import Embedded, embed
from skelpipe.train.evaluation.evaluated_network import Subject, choose_subject, default_folder
from skelpipe.train.evaluation.labelled_share import labelled_subset
from skelpipe.train.evaluation.outcome import EMBEDDING, FEATURES, RESULT, open_folder, write_features
from skelpipe.train.evaluation.scatter_plot import draw_scatter
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.provenance import dataset_name
from skelpipe.train.running.ranks import ranks, together
from skelpipe.train.running.run_log import Console
from skelpipe.train.running.script_options import features_option, overwrite_option, subject_options

__all__ = ["main"]

PROTOCOL = "embed"
TABLE = "embedding.csv"


@dataclass(frozen=True)
class Arrangement:
    """The clips that are shown: embeddings, and the cluster (int64 [N]) and place (float64 [N,2]) of each."""

    clips: Embedded
    clusters: np.ndarray
    places: np.ndarray


def choose_rows(
    dataset: Dataset, split: str, count: int, actions: Sequence[int], share: float, seed: int
) -> np.ndarray:
    """Return the rows of the clips to show, int64 [n]: of the actions (from 1), else of `count` drawn classes."""
    labels = np.asarray(dataset.labels(split), np.int64)
    if not len(labels):
        raise DatasetError(f"{dataset.path}: the {split} split is empty: there is nothing to show")
    present = np.unique(labels).tolist()
    if absent := [action for action in actions if action - 1 not in present]:
        raise UsageError(f"--actions {absent[0]}: the {split} split of {dataset.path} has no clip of it")
    chosen = [action - 1 for action in actions] or draw_classes(present, count, seed)
    rows = np.flatnonzero(np.isin(labels, chosen))
    ids = dataset.ids(split)
    part = labelled_subset([ids[row] for row in rows], labels[rows], share, seed)
    return rows[part]


def arrange(
    dataset: Dataset, split: str, subject: Subject, rows: np.ndarray, perplexity: float, seed: int, device: str
) -> Arrangement:
    """Embed the clips, place and cluster them; projections z are brought to length 1, as their loss sees them."""
    place = resolve_device(device)
    clips = embed(subject.network.to(place), dataset, split, subject.view, device=place, rows=rows, quiet=False)
    if subject.features == "z":
        clips = replace(clips, features=torch.nn.functional.normalize(clips.features, dim=1))
    numbers = clips.features.numpy()
    clusters = cluster(numbers, len(clips.labels.unique()), seed)
    return Arrangement(clips, clusters, plane(numbers, perplexity, seed))


def summary(
    dataset: Dataset, split: str, subject: Subject, shown: Arrangement, used: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what --json prints; `used` are the options that shaped the result."""
    labels = shown.clips.labels.numpy()
    classes, clips = np.unique(labels, return_counts=True)
    in_plane = cluster(shown.places, len(classes), used["seed"])
    return {
        "protocol": PROTOCOL,
        "what": subject.name,
        "dataset": dataset_name(dataset),
        "digest": dataset.digest,
        "split": split,
        "view": subject.view,
        "features": subject.features,
        "clips": {split: len(labels)},
        "classes": [
            {"label": label, "name": dataset.classes[label], "clips": count}
            for label, count in zip(classes.tolist(), clips.tolist(), strict=True)
        ],
        **used,
        "figures": {
            "nmi": normalised_mutual_information(labels, shown.clusters),
            "nmi_plane": normalised_mutual_information(labels, in_plane),
        },
    }


def write_table(path: Path, shown: Arrangement, names: Sequence[str]) -> None:
    """Write each clip's id, label (from 0), class name, cluster and place in the picture as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "label", "name", "cluster", "x", "y"))
    both = zip(shown.clips.ids, shown.clips.labels.tolist(), shown.clusters, shown.places, strict=True)
    writer.writerows(
        (id_, label, names[label], found, f"{x:.6g}", f"{y:.6g}") for id_, label, found, (x, y) in both
    )
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def write(folder: Path, dataset: Dataset, shown: Arrangement, result: Mapping[str, Any], console: Console) -> None:
    """Write the folder of an embedding: picture, table, features, the result and a report."""
    figures = result["figures"]
    title = f"{result['what']}\n{result['features']} features, {result['view']} view, {result['split']} clips of "
    title += f"{result['dataset']}; NMI {figures['nmi']:.4f}, in this plane {figures['nmi_plane']:.4f}"
    labels = shown.clips.labels.numpy()
    if not draw_scatter(shown.places, labels, dataset.classes, title, folder / EMBEDDING):
        console.say("no picture: drawing needs matplotlib (pip install 'skelpipe[plot]')")
    write_table(folder / TABLE, shown, dataset.classes)
    about = {key: str(result[key]) for key in ("protocol", "dataset", "digest", "split", "view", "what")}
    about["classes"] = json.dumps(list(dataset.classes))
    write_features(folder / FEATURES, shown.clips, about)
    write_json(folder / RESULT, dict(result))
    write_report(folder, dataset)


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the result as lines for people."""
    split = result["split"]
    return [
        f"{result['what']}: {result['features']} features, {result['view']} view, "
        f"{result['clips'][split]} {split} clips of {result['dataset']}",
        *(f"  {entry['label'] + 1:>3}  {entry['name']} ({entry['clips']})" for entry in result["classes"]),
        f"NMI           {result['figures']['nmi']:.4f}   k-means on the features",
        f"NMI in plane  {result['figures']['nmi_plane']:.4f}   k-means on the picture, "
        f"perplexity {result['perplexity']:.3g}",
        f"written to {result['run']}",
    ]


def _parse_actions(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(text) for text in (value or "").split(",") if text.strip()))
    except ValueError:
        raise click.BadParameter("expected action numbers, such as --actions 8,9,14") from None


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: python train/embed.py --shards data/ntu60-xsub --baseline random --classes 5",
)
@shards_option
@cache_options
@subject_options
@click.option(
    "--split", type=click.Choice(list(SUBSETS)), default="test", show_default=True, help="Clips to show."
)
@features_option("h")
@click.option(
    "--classes",
    "count",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Classes shown, drawn by --seed.",
)
@click.option("--actions", metavar="A[,A...]", callback=_parse_actions, help="These instead, numbered from 1.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Part of each class's clips.",
)
@click.option(
    "--perplexity", type=click.FloatRange(min=1), default=PERPLEXITY, show_default=True, help="Of t-SNE."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: runs/embed-DATASET-VIEW-NAME].")
@overwrite_option
@device_option
@seed_option
@json_option
@errors_as_messages
@together
def main(
    shards: str,
    cache: Path | None,
    cache_size: int | None,
    checkpoint: str | None,
    baseline: str | None,
    recipe: str | None,
    settings: tuple[str, ...],
    view: str | None,
    split: str,
    features: str,
    count: int,
    actions: tuple[int, ...],
    share: float,
    perplexity: float,
    out: Path | None,
    overwrite: bool,
    device: str,
    seed: int,
    as_json: bool,
) -> None:
    """Draw the embeddings of some classes and measure how well they cluster."""
    console, team = Console(), ranks()
    dataset = Dataset.open(shards, cache=cache, cache_size=cache_size)
    rows = choose_rows(dataset, split, count, actions, share, seed)
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
    folder = out or default_folder(PROTOCOL, dataset, subject.view, checkpoint, baseline)
    team.on_main(lambda: open_folder(folder, overwrite=overwrite, also=(EMBEDDING, TABLE)))
    usable = usable_perplexity(perplexity, len(rows))
    if usable < perplexity:
        console.say(f"perplexity {perplexity:g} is too much for {len(rows)} clips: {usable:.3g} is taken")
    shown = arrange(dataset, split, subject, rows, usable, seed, device)
    result = summary(dataset, split, subject, shown, {"share": share, "perplexity": usable, "seed": seed})
    result["run"] = str(folder)
    team.on_main(lambda: write(folder, dataset, shown, result, console))
    click.echo(json.dumps(result) if as_json else "\n".join(lines(result)))


if __name__ == "__main__":
    main()
