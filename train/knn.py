"""Judge an encoder by its nearest neighbours: training clips vote on test clips, nothing is trained.

    python train/knn.py --shards data/ntu60-xsub --checkpoint runs/skeletonclr-ntu60-xsub-joint
    python train/knn.py --shards data/ntu60-xsub --checkpoint encoder.safetensors --k 1,5,20 --features h
    python train/knn.py --shards data/ntu60-xsub --baseline random
    python train/knn.py --shards data/ntu60-xsub --baseline raw --json
    python train/knn.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint --out runs/knn-aimclr

An installed skelpipe needs no checkout: `python -m skelpipe.train.knn --shards ...`.

Cosine similarity in float64, each neighbour voting with exp(similarity / temperature). Without --augment clips are
as they are; the released code of SkeleMixCLR, SkeAttnCLR and ActCLR crops and shears those of both splits once.
With --out the votes, figures a class, confusion matrix and a report are written to a folder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch import Tensor

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
from skelpipe.errors import UsageError
from skelpipe.train.evaluation.augmented_features import embed_augmented
from skelpipe.train.evaluation.checks import check_splits
from skelpipe.train.evaluation.embedding import Embedded, embed
from skelpipe.train.evaluation.evaluated_network import Subject, choose_subject
from skelpipe.train.evaluation.knn_votes import all_votes, figures_of
from skelpipe.train.evaluation.outcome import SPLIT_FEATURES, Scores, open_folder, write_features, write_outcome
from skelpipe.train.papers.reported import published, reference, reported, reported_text, told_by_scores
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.provenance import dataset_name
from skelpipe.train.running.ranks import ranks, together
from skelpipe.train.running.run_log import Console
from skelpipe.train.running.script_options import (
    features_option,
    overwrite_option,
    save_features_option,
    subject_options,
)

__all__ = ["Judged", "judge", "main", "rounded"]

PROTOCOL = "knn"
PAPER_K = 20


@dataclass(frozen=True)
class Judged:
    """What --json prints, the votes for each k, float64[N,K], and both splits' features."""

    result: dict[str, Any]
    votes: Mapping[int, Tensor]
    clips: Mapping[str, Embedded]


def judge(
    dataset: Dataset,
    subject: Subject,
    ks: tuple[int, ...],
    temperature: float,
    device: str,
    console: Console,
    *,
    augment: bool = False,
    seed: int = 0,
) -> Judged:
    """Embed both splits, with `augment` cropped and sheared, and let the training clips vote on the test clips."""
    check_splits(dataset, console.say)
    place = resolve_device(device)
    network = subject.network.to(place)
    clips = {
        split: embed_augmented(network, dataset, split, subject.view, device=place, seed=seed, quiet=False)
        if augment
        else embed(network, dataset, split, subject.view, device=place, quiet=False)
        for split in ("train", "test")
    }
    bank, queries = clips["train"], clips["test"]
    for k in ks:
        if k > len(bank.ids):
            console.say(f"k={k} is more than the {len(bank.ids)} training clips: all of them vote")
    votes = all_votes(bank, queries, ks, temperature, len(dataset.classes), place)
    result = {
        "protocol": PROTOCOL,
        "what": subject.name,
        "dataset": dataset_name(dataset),
        "digest": dataset.digest,
        "split": "test",
        "view": subject.view,
        "features": subject.features,
        "augmented": augment,
        "temperature": temperature,
        "seed": seed,
        "clips": {"train": len(bank.ids), "test": len(queries.ids)},
        "figures": figures_of(votes, queries.labels),
        "chance": 100.0 / len(set(bank.labels.tolist())),
        "reported": reported(reference(dataset, subject, PROTOCOL), published(dataset)),
    }
    return Judged(result, votes, clips)


def rounded(votes: Tensor) -> np.ndarray:
    """Return votes float64[N,K] as float32 with the same class ahead: where rounding makes it equal to another, or
    overtaken by one, it gets the next higher number."""
    scores = votes.float().numpy()
    rows, ahead = np.arange(len(scores)), votes.argmax(dim=1).numpy()
    changed = scores.argmax(axis=1) != ahead
    scores[rows[changed], ahead[changed]] = np.nextafter(scores[changed].max(axis=1), np.float32(np.inf))
    return scores


def save(folder: Path, dataset: Dataset, subject: Subject, judged: Judged, *, with_features: bool) -> None:
    """Write the outcome: the votes of k=20 where that was asked for, of the largest k otherwise."""
    ks = judged.votes.keys()
    k = PAPER_K if PAPER_K in ks else max(ks)
    queries = judged.clips["test"]
    names = ("protocol", "dataset", "digest", "split", "view", "what")
    about = {name: str(judged.result[name]) for name in names}
    about |= {"classes": json.dumps(list(dataset.classes)), "features": subject.features, "k": str(k)}
    about |= told_by_scores(reference(dataset, subject, PROTOCOL), dataset)
    if with_features:
        for split, embedded in judged.clips.items():
            write_features(folder / SPLIT_FEATURES[split], embedded, about | {"split": split})
    scores = Scores(queries.ids, queries.labels.numpy(), rounded(judged.votes[k]), about)
    settings = {name: judged.result[name] for name in ("protocol", "features", "augmented", "temperature", "seed")}
    settings["k"] = list(ks)
    if judged.result["augmented"]:
        settings["augment"] = {"name": "normal"}
    settings |= subject.pretraining()
    write_outcome(folder, scores, judged.result, settings=settings)
    write_report(folder, dataset)


def _lines(result: dict[str, Any]) -> list[str]:
    clips = result["clips"]
    augmented = ", cropped and sheared" if result["augmented"] else ""
    lines = [
        f"{result['what']}: {result['features']} features, {result['view']} view, "
        f"{clips['train']} training and {clips['test']} test clips of {result['dataset']}{augmented}",
    ]
    for name, figure in result["figures"].items():
        lines.append(f"{name:8} {figure:6.2f} %{reported_text(result, name)}")
    lines.append(f"{'chance':8} {result['chance']:6.2f} %")
    if "run" in result:
        lines.append(f"written to {result['run']}")
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
@cache_options
@subject_options
@features_option(None)
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
@click.option("--augment", is_flag=True, help="Crop and shear the clips of both splits once, before embedding.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write the outcome to [default: nowhere].")
@overwrite_option
@save_features_option
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
    features: str | None,
    ks: tuple[int, ...],
    temperature: float,
    augment: bool,
    out: Path | None,
    overwrite: bool,
    save_features: bool,
    device: str,
    seed: int,
    as_json: bool,
) -> None:
    """Judge an encoder by weighted k-nearest neighbours."""
    if out is None and (overwrite or save_features):
        raise UsageError("--overwrite and --save-features are about the folder that --out names")
    console = Console()
    dataset = Dataset.open(shards, cache=cache, cache_size=cache_size)
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
    if out is not None:
        folder = out
        ranks().on_main(lambda: open_folder(folder, overwrite=overwrite))
    judged = judge(dataset, subject, ks, temperature, device, console, augment=augment, seed=seed)
    if out is not None:
        judged.result["run"] = str(out)
        if ranks().is_main:
            save(out, dataset, subject, judged, with_features=save_features)
    click.echo(json.dumps(judged.result) if as_json else "\n".join(_lines(judged.result)))


if __name__ == "__main__":
    main()
