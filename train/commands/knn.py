"""The work of `train/knn.py`, where it is described, once the options are checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch import Tensor

from skelpipe.door.visible import visible_lines
from skelpipe.front.descriptions import counted
from skelpipe.train.evaluation.augmented_features import embed_augmented
from skelpipe.train.evaluation.beginning import Evaluation, EvaluationOptions, begin, check_subsets
from skelpipe.train.evaluation.embedding import Embedded, embed
from skelpipe.train.evaluation.knn import accuracies, all_votes
from skelpipe.train.evaluation.outcome import Scores, metadata_of, write_outcome, write_subset_features
from skelpipe.train.papers.reported import reference, reference_metadata, reported, reported_text
from skelpipe.train.reporting.logged import log_outcome
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.ranks import ranks, together

__all__ = ["rounded", "run"]

PROTOCOL = "knn"
PAPER_K = 20


@dataclass(frozen=True, kw_only=True)
class KnnOptions(EvaluationOptions):
    """The command line, one field per option; without `out` nothing is written."""

    ks: tuple[int, ...]
    temperature: float
    augment: bool
    save_features: bool


@dataclass(frozen=True)
class KnnOutcome:
    """What --json prints, the votes for each k, float64[N,K], and the features of both subsets."""

    result: dict[str, Any]
    votes: Mapping[int, Tensor]
    clips: Mapping[str, Embedded]


def evaluate(evaluation: Evaluation, options: KnnOptions) -> KnnOutcome:
    """Embed both subsets, cropped and sheared with `augment`, and let training clips vote on test clips."""
    dataset, network, device = evaluation.dataset, evaluation.network, evaluation.device
    clips = {
        subset: embed_augmented(
            network.embedder, dataset, subset, network.view, device=device, seed=options.seed, quiet=False
        )
        if options.augment
        else embed(network.embedder, dataset, subset, network.view, device=device, quiet=False)
        for subset in ("train", "test")
    }
    bank, queries = clips["train"], clips["test"]
    for k in options.ks:
        if k > len(bank.ids):
            evaluation.console.say(f"k={k} is more than the {len(bank.ids)} training clips: all of them vote")
    votes = all_votes(bank, queries, options.ks, options.temperature, len(dataset.classes), device)
    result = {
        **evaluation.facts(),
        "augmented": options.augment,
        "temperature": options.temperature,
        "seed": options.seed,
        "clips": {"train": len(bank.ids), "test": len(queries.ids)},
        "figures": accuracies(votes, queries.labels),
        "chance": 100.0 / len(set(bank.labels.tolist())),
        "reported": reported(reference(dataset, network, PROTOCOL), dataset),
    }
    return KnnOutcome(result, votes, clips)


def rounded(votes: Tensor) -> np.ndarray:
    """Return votes float64[N,K] as float32 with the same winner in each row.

    Where rounding makes another class equal to the winner, or greater, the winner gets the next higher number.
    """
    scores = votes.float().numpy()
    rows, winners = np.arange(len(scores)), votes.argmax(dim=1).numpy()
    changed = scores.argmax(axis=1) != winners
    scores[rows[changed], winners[changed]] = np.nextafter(scores[changed].max(axis=1), np.float32(np.inf))
    return scores


def save(folder: Path, evaluation: Evaluation, options: KnnOptions, outcome: KnnOutcome) -> None:
    """Write the outcome: the votes of k=20 where that was asked for, of the largest k otherwise."""
    dataset, network, result = evaluation.dataset, evaluation.network, outcome.result
    k = PAPER_K if PAPER_K in options.ks else max(options.ks)
    queries = outcome.clips["test"]
    about = metadata_of(result, dataset.classes) | {"features": network.features, "k": str(k)}
    about |= reference_metadata(reference(dataset, network, PROTOCOL), dataset)
    if options.save_features:
        write_subset_features(folder, outcome.clips, about)
    scores = Scores(queries.ids, queries.labels.numpy(), rounded(outcome.votes[k]), about)
    settings = {name: result[name] for name in ("protocol", "features", "augmented", "temperature", "seed")}
    settings["k"] = list(options.ks)
    if options.augment:
        settings["augment"] = {"name": "normal"}
    settings |= network.pretraining()
    write_outcome(folder, scores, result, settings=settings)
    write_report(folder, dataset)
    log_outcome(folder)


def _lines(result: dict[str, Any]) -> list[str]:
    clips = result["clips"]
    augmented = ", cropped and sheared" if result["augmented"] else ""
    lines = [
        f"{result['what']}: {result['features']} features, {result['view']} view, "
        f"{clips['train']} training and {counted(clips['test'], 'test clip')} of {result['dataset']}{augmented}",
    ]
    for name, figure in result["figures"].items():
        lines.append(f"{name:8} {figure:6.2f} %{reported_text(result, name)}")
    lines.append(f"{'chance':8} {result['chance']:6.2f} %")
    if "run" in result:
        lines.append(f"written to {result['run']}")
    return lines


@together
def run(**given: Any) -> None:
    """Do what the command asks for."""
    options = KnnOptions(**given)
    evaluation = begin(PROTOCOL, options)
    check_subsets(evaluation.dataset, evaluation.console.say)
    folder = None if options.out is None else evaluation.open_folder()
    outcome = evaluate(evaluation, options)
    if folder is not None:
        outcome.result["run"] = str(folder)
        if ranks().is_main:
            save(folder, evaluation, options, outcome)
    click.echo(json.dumps(outcome.result) if options.as_json else visible_lines(_lines(outcome.result)))
