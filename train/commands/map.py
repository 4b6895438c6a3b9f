"""The work of `train/map.py`, where it is described, once the options are checked."""

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

from skelpipe.dataset import Dataset
from skelpipe.door.visible import visible_lines
from skelpipe.errors import DatasetError, UsageError
from skelpipe.files import replacing, write_json
from skelpipe.front.descriptions import counted
from skelpipe.train.evaluation.beginning import Evaluation, EvaluationOptions, begin
from skelpipe.train.evaluation.clusters import (
    cluster,
    draw_classes,
    normalised_mutual_information,
    plane_points,
    usable_perplexity,
)
from skelpipe.train.evaluation.dataset_rows import labelled_rows
from skelpipe.train.evaluation.embedding import Embedded, embed
from skelpipe.train.evaluation.evaluated_network import EvaluatedNetwork, NetworkOptions, choose_network
from skelpipe.train.evaluation.fusion import fused_view
from skelpipe.train.evaluation.outcome import EMBEDDING, FEATURES, RESULT, metadata_of, write_features
from skelpipe.train.evaluation.outcome_folder import OF_MAP, POINTS
from skelpipe.train.evaluation.scatter_plot import draw_scatter
from skelpipe.train.papers.reported import reference, reported, reported_text
from skelpipe.train.reporting.logged import log_outcome
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.ranks import ranks, together

__all__ = ["run"]

PROTOCOL = "map"
PAPER_CLASSES = 10  # that AimCLR and SkeleMixCLR show


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(EvaluationOptions):
    """The command line, one field per option; without `actions` so many classes are drawn."""

    subset: str
    classes: int
    actions: tuple[int, ...]
    share: float
    perplexity: float
    join: tuple[tuple[str, str], ...]
    fusion: str


@dataclass(frozen=True)
class Arrangement:
    """The clips that are shown: their embeddings, the cluster (int64 [N]) and point (float64 [N,2]) of each."""

    clips: Embedded
    clusters: np.ndarray
    points: np.ndarray


def choose_rows(dataset: Dataset, options: EmbedOptions) -> np.ndarray:
    """Return the rows of the clips to show, int64 [n]: of the actions (from 1), or else of drawn classes."""
    subset = options.subset
    labels = dataset.stored_labels(subset)
    if not dataset.labelled and options.actions:
        raise UsageError(f"--actions: {dataset.path} has no labels")
    if not len(labels):
        raise DatasetError(f"{dataset.path}: the {subset} subset is empty: there is nothing to show")
    present = np.unique(labels).tolist()
    if absent := [action for action in options.actions if action - 1 not in present]:
        raise UsageError(f"--actions {absent[0]}: the {subset} subset of {dataset.path} has no clip of it")
    chosen = [action - 1 for action in options.actions] or draw_classes(present, options.classes, options.seed)
    rows = np.flatnonzero(np.isin(labels, chosen))
    ids = dataset.ids(subset)
    return rows[labelled_rows([ids[row] for row in rows], labels[rows], options.share, options.seed)]


def choose_streams(evaluation: Evaluation, options: EmbedOptions) -> list[EvaluatedNetwork]:
    """Return the networks of all streams, on their device: the one that is evaluated, then those of --join.

    Raises UsageError where a view comes twice or a checkpoint does not fit the dataset.
    """
    networks = [evaluation.network]
    for view, checkpoint in options.join:
        if view in [network.view for network in networks]:
            raise UsageError(f"--join {view}={checkpoint}: the view {view} is shown already")
        wanted = NetworkOptions(checkpoint=checkpoint, view=view, features=options.features, seed=options.seed)
        network = choose_network(evaluation.dataset, wanted, evaluation.console.say)
        network.embedder.to(evaluation.device)
        networks.append(network)
    return networks


def as_one(evaluation: Evaluation, networks: Sequence[EvaluatedNetwork]) -> Evaluation:
    """Return the evaluation of several streams as that of one network, named by all of their views."""
    names = dict.fromkeys(network.name for network in networks)
    view = fused_view([network.view for network in networks])
    return replace(evaluation, network=replace(networks[0], name=" + ".join(names), view=view))


def fused(parts: Sequence[Embedded], how: str) -> Embedded:
    """Return the features of several streams as one: each row of length 1, then joined end to end, or added."""
    features = [torch.nn.functional.normalize(part.features, dim=1) for part in parts]
    if how == "sum" and len({each.shape[1] for each in features}) > 1:
        widths = ", ".join(str(each.shape[1]) for each in features)
        raise UsageError(f"--fusion sum: the streams have features of different lengths: {widths}")
    return replace(
        parts[0], features=torch.cat(features, dim=1) if how == "join" else torch.stack(features).sum(0)
    )


def arrange(
    evaluation: Evaluation,
    networks: Sequence[EvaluatedNetwork],
    subset: str,
    rows: np.ndarray,
    perplexity: float,
    clusters: int,
    how: str = "join",
) -> Arrangement:
    """Embed clips, give each a point and a cluster; projections z are brought to length 1, as for their loss.

    With several networks their features are fused: `how` says in which way. There are as many clusters as
    classes, or `clusters` in a dataset without labels.
    """
    seed, dataset, device = evaluation.options.seed, evaluation.dataset, evaluation.device
    parts = [
        embed(network.embedder, dataset, subset, network.view, device=device, rows=rows, quiet=False)
        for network in networks
    ]
    alone = networks[0].features != "z" and len(parts) == 1
    clips = parts[0] if alone else fused(parts, how)
    numbers = clips.features.numpy()
    count = len(clips.labels.unique()) if dataset.labelled else min(clusters, len(numbers))
    return Arrangement(clips, cluster(numbers, count, seed), plane_points(numbers, perplexity, seed))


def held_against(
    dataset: Dataset, networks: Sequence[EvaluatedNetwork], labels: np.ndarray, subset: str
) -> dict[str, Any] | None:
    """Return what the papers report for the clusters of these networks, and where the clips are others."""
    views = fused_view([network.view for network in networks])
    references = [reference(dataset, network, "nmi") for network in networks]
    streams = [None if each is None else each.with_stream(views) for each in references]
    classes = len(np.unique(labels))
    more = ["the paper does not say which clips, nor how it clusters"]
    if classes != PAPER_CLASSES:
        more.append(f"of {counted(PAPER_CLASSES, 'class')}, here {classes}")
    if subset != "test":
        more.append(f"here of {subset} clips")
    return reported(streams[0], dataset, more) if all(each == streams[0] for each in streams) else None


def summary(
    evaluation: Evaluation,
    networks: Sequence[EvaluatedNetwork],
    subset: str,
    shown: Arrangement,
    used: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what --json prints; `used` are the options that shaped the result."""
    labels = shown.clips.labels.numpy()
    classes, clips = np.unique(labels, return_counts=True)
    about = {**evaluation.facts(subset), "clips": {subset: len(labels)}}
    if not evaluation.dataset.labelled:
        return {**about, "classes": [], **used, "figures": {}, "reported": None}
    in_plane = cluster(shown.points, len(classes), used["seed"])
    return {
        **about,
        "classes": [
            {"label": label, "name": evaluation.dataset.classes[label], "clips": count}
            for label, count in zip(classes.tolist(), clips.tolist(), strict=True)
        ],
        **used,
        "figures": {
            "nmi": normalised_mutual_information(labels, shown.clusters),
            "nmi_plane": normalised_mutual_information(labels, in_plane),
        },
        "reported": held_against(evaluation.dataset, networks, labels, subset),
    }


def write_table(path: Path, shown: Arrangement, names: Sequence[str]) -> None:
    """Write each clip's id, label (from 0), class name, cluster and point in the picture as CSV.

    Label and name are empty in a dataset without labels.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "label", "name", "cluster", "x", "y"))
    both = zip(shown.clips.ids, shown.clips.labels.tolist(), shown.clusters, shown.points, strict=True)
    writer.writerows(
        (id_, *((label, names[label]) if names else ("", "")), found, f"{x:.6g}", f"{y:.6g}")
        for id_, label, found, (x, y) in both
    )
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def write(evaluation: Evaluation, folder: Path, shown: Arrangement, result: Mapping[str, Any]) -> None:
    """Write the folder of an embedding: picture, table, features, the result and a report."""
    dataset, figures = evaluation.dataset, result["figures"]
    title = f"{result['what']}\n{result['features']} features, {result['view']} view, {result['split']} clips of "
    labels, names = shown.clips.labels.numpy(), dataset.classes
    if figures:
        title += f"{result['dataset']}; NMI {figures['nmi']:.4f}, in this plane {figures['nmi_plane']:.4f}"
    else:
        title += f"{result['dataset']}, without labels: colours are clusters"
        labels, names = shown.clusters, ("cluster",) * (int(shown.clusters.max()) + 1)
    if not draw_scatter(shown.points, labels, names, title, folder / EMBEDDING):
        evaluation.console.say("no picture: drawing needs matplotlib (pip install 'skelpipe[plot]')")
    write_table(folder / POINTS, shown, dataset.classes)
    write_features(folder / FEATURES, shown.clips, metadata_of(result, dataset.classes))
    write_json(folder / RESULT, dict(result))
    write_report(folder, dataset)
    log_outcome(folder)


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the result as lines for people."""
    subset, figures = result["split"], result["figures"]
    nmi = figures and [
        f"NMI           {figures['nmi']:.4f}   k-means on the features{reported_text(result, 'nmi')}",
        f"NMI in plane  {figures['nmi_plane']:.4f}   k-means on the picture, "
        f"perplexity {result['perplexity']:.3g}",
    ]
    return [
        f"{result['what']}: {result['features']} features, {result['view']} view, "
        f"{counted(result['clips'][subset], f'{subset} clip')} of {result['dataset']}",
        *(f"  {entry['label'] + 1:>3}  {entry['name']} ({entry['clips']})" for entry in result["classes"]),
        *(nmi or ["no NMI: the dataset has no labels to compare clusters with"]),
        f"written to {result['run']}",
    ]


@together
def run(**given: Any) -> None:
    """Do what the command asks for."""
    options = EmbedOptions(**given)
    evaluation = begin(PROTOCOL, options)
    networks = choose_streams(evaluation, options)
    if len(networks) > 1:
        evaluation = as_one(evaluation, networks)
    rows = choose_rows(evaluation.dataset, options)
    folder = evaluation.open_folder(also=OF_MAP)
    perplexity = usable_perplexity(options.perplexity, len(rows))
    if perplexity < options.perplexity:
        evaluation.console.say(
            f"perplexity {options.perplexity:g} is too much for {len(rows)} clips: {perplexity:.3g} is taken"
        )
    shown = arrange(evaluation, networks, options.subset, rows, perplexity, options.classes, options.fusion)
    used: dict[str, Any] = {"share": options.share, "perplexity": perplexity, "seed": options.seed}
    if len(networks) > 1:
        used["fusion"] = options.fusion
    result = summary(evaluation, networks, options.subset, shown, used) | {"run": str(folder)}
    ranks().on_main(lambda: write(evaluation, folder, shown, result))
    click.echo(json.dumps(result) if options.as_json else visible_lines(lines(result)))
