"""Judge an encoder by a linear classifier on its frozen features (linear evaluation).

    python train/linear.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint
    python train/linear.py --shards data/pkummd1-xsub --checkpoint runs/aimclr-ntu60-xsub-joint
    python train/linear.py --shards data/ntu60-xsub --checkpoint encoder.safetensors --recipe linear-skeattnclr
    python train/linear.py --shards data/ntu60-xsub --baseline random --network aimclr
    python train/linear.py --shards data/ntu60-xsub --baseline raw --set optimiser.lr=0.1 --json

An installed skelpipe needs no checkout: `python -m skelpipe.train.linear --shards ...`.

Each clip is embedded once and the classifier trained on these features; with --augment training clips are cropped
and sheared afresh every epoch and go through the network each time. The encoder stays in evaluation mode, and a
hash of each of its tensors shows that it is afterwards what it was before. The folder of the run gets result.json,
scores.parquet, classes.csv, confusion.csv, log.jsonl, recipe.yaml, report.html and, for a classifier on h,
classifier.safetensors, which train/predict.py names the actions of recordings with.
"""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

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
from skelpipe.train.evaluation.checks import check_splits
from skelpipe.train.evaluation.classifier_file import Origin, export_classifier
from skelpipe.train.evaluation.evaluated_network import choose_subject, default_folder
from skelpipe.train.evaluation.linear import Evaluated, Job, train_classifier
from skelpipe.train.evaluation.metrics import topk_accuracy
from skelpipe.train.evaluation.outcome import SPLIT_FEATURES, Scores, open_folder, write_features, write_outcome
from skelpipe.train.papers.reported import published, reference, reported, reported_text, told_by_scores
from skelpipe.train.recipes.reader import builtin_recipes, load_recipe, with_overrides
from skelpipe.train.recipes.schema import LinearRecipe
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.provenance import dataset_name
from skelpipe.train.running.ranks import ranks, together
from skelpipe.train.running.run_folder import CLASSIFIER
from skelpipe.train.running.run_log import Console
from skelpipe.train.running.script_options import (
    baseline_option,
    checkpoint_option,
    features_option,
    overwrite_option,
    own_view_option,
    save_features_option,
    training_options,
)

__all__ = ["main", "one_class"]

PROTOCOL = "linear"
TOP = (1, 5)
USUAL = {"skeattnclr": "linear-skeattnclr"}  # recipes of methods whose paper has values of its own


def summary(job: Job, trained: Evaluated, recipe: str, folder: Path) -> dict[str, Any]:
    """Return what --json prints: the figures of the last epoch, and the best of those measured on the way."""
    dataset, subject, tested = job.dataset, job.subject, trained.tested
    final = {f"top{k}": topk_accuracy(trained.scores, tested.labels.numpy(), k) for k in TOP}
    return {
        "protocol": PROTOCOL,
        "what": subject.name,
        "dataset": dataset_name(dataset),
        "digest": dataset.digest,
        "split": "test",
        "view": subject.view,
        "features": subject.features,
        "trained_on": subject.trained_on,
        "augmented": job.augment,
        "recipe": recipe,
        "seed": job.seed,
        "run": str(folder),
        "epochs": job.recipe.epochs,
        "clips": {split: dataset.count(split) for split in ("train", "test")},
        "figures": {**final, "best_top1": trained.best["top1"]},
        "best_epoch": int(trained.best["epoch"]),
        "chance": 100.0 / len(set(dataset.labels("train").tolist())),
        "frozen": {"tensors": len(trained.seal.hashes), "sha256": trained.seal.digest},
        "reported": reported(reference(dataset, subject, PROTOCOL), published(dataset)),
    }


def save(folder: Path, job: Job, trained: Evaluated, result: dict[str, Any], *, with_features: bool) -> None:
    """Write the outcome of an evaluation to its folder."""
    names = ("protocol", "dataset", "digest", "split", "view", "what", "features", "recipe")
    about = {name: str(result[name]) for name in names} | {"classes": json.dumps(list(job.dataset.classes))}
    about |= told_by_scores(reference(job.dataset, job.subject, PROTOCOL), job.dataset)
    if with_features:
        for split, embedded in (("train", trained.cached), ("test", trained.tested)):
            if embedded is not None:
                write_features(folder / SPLIT_FEATURES[split], embedded, about | {"split": split})
    tested = trained.tested
    scores = Scores(tested.ids, tested.labels.numpy(), trained.scores, about)
    settings = {
        **job.recipe.content(),
        "features": job.subject.features,
        "augmented": job.augment,
        "seed": job.seed,
    }
    if job.augment:
        settings["augment"] = {"name": "normal"}
    if job.subject.architecture is not None and job.subject.features == "h":
        origin = _origin(job, result, settings)
        export_classifier(folder / CLASSIFIER, job.subject.encoder, trained.layer, origin)
    settings |= job.subject.pretraining()
    write_outcome(folder, scores, result, log=trained.log, settings=settings)
    write_report(folder, job.dataset)


def _origin(job: Job, result: dict[str, Any], settings: dict[str, Any]) -> Origin:
    subject = job.subject
    return Origin.of(
        job.dataset,
        protocol=PROTOCOL,
        what=subject.name,
        method=subject.method or "",
        trained_on=subject.trained_on or "",
        view=subject.view,
        seed=job.seed,
        amp=False,
        epoch=result["epochs"],
        encoder=subject.architecture or {},
        recipe=settings,
    )


def one_class(scores: np.ndarray, dataset: Dataset) -> str:
    """Return what to say where the classifier tells nothing apart: one class for all test clips."""
    found = np.unique(scores.argmax(axis=1))
    if len(found) > 1 or len(scores) < 2:
        return ""
    name = dataset.classes[found[0]]
    return f"all {len(scores)} test clips are given the class {name!r}: try another --lr, or more --epochs"


def _lines(result: dict[str, Any]) -> list[str]:
    clips, figures, epoch = result["clips"], result["figures"], result["best_epoch"]
    head = (
        f"{result['what']}: {result['features']} features, {result['view']} view, {clips['train']} training and "
        f"{clips['test']} test clips of {result['dataset']}, recipe {result['recipe']}"
    )
    frozen = result["frozen"]
    proof = f"the encoder stayed as it was: {frozen['tensors']} tensors, sha256 {frozen['sha256'][:16]}"
    return [
        head,
        f"{'top1':8} {figures['top1']:6.2f} %{reported_text(result, 'top1')}",
        f"{'top5':8} {figures['top5']:6.2f} %",
        f"{'best':8} {figures['best_top1']:6.2f} %   of epoch {epoch}, chosen on the test clips as in the papers",
        f"{'chance':8} {result['chance']:6.2f} %",
        *([proof] if frozen["tensors"] else []),
        f"written to {result['run']}",
    ]


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: python train/linear.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint",
)
@shards_option
@cache_options
@checkpoint_option
@baseline_option
@click.option(
    "--network",
    metavar="NAME|FILE",
    help="Recipe of pre-training that a random network has [default: skeletonclr].",
)
@click.option(
    "--network-set",
    "network_settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a value of the random network's recipe, such as init=default.",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help=f"How to train the classifier: {', '.join(builtin_recipes(LinearRecipe))}, or a YAML file "
    "[default: its paper's].",
)
@click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Override a value, such as optimiser.lr=1."
)
@training_options
@own_view_option
@features_option("h")
@click.option("--augment", is_flag=True, help="Crop and shear training clips afresh every epoch: slow.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: runs/linear-DATASET-VIEW-NAME].")
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
    network: str | None,
    network_settings: tuple[str, ...],
    recipe: str | None,
    settings: tuple[str, ...],
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    view: str | None,
    features: str,
    augment: bool,
    out: Path | None,
    overwrite: bool,
    save_features: bool,
    device: str,
    seed: int,
    as_json: bool,
) -> None:
    """Judge an encoder by a linear classifier on its frozen features."""
    if network_settings and baseline != "random":
        raise UsageError("--network-set changes the recipe of a random network: it needs --baseline random")
    if network and (checkpoint or baseline == "raw"):
        raise UsageError("--network describes a random network: it goes with --baseline random alone")
    console = Console()
    dataset = Dataset.open(shards, cache=cache, cache_size=cache_size)
    check_splits(dataset, console.say)
    subject = choose_subject(
        dataset,
        checkpoint=checkpoint,
        baseline=baseline,
        recipe=network,
        settings=network_settings,
        view=view,
        features=features,
        seed=seed,
        console=console,
    )
    name = recipe or USUAL.get(subject.method or "", PROTOCOL)
    chosen = with_overrides(load_recipe(name, LinearRecipe), settings, epochs=epochs, batch_size=batch_size, lr=lr)
    folder = out or default_folder(PROTOCOL, dataset, subject.view, checkpoint, baseline, "-augmented" * augment)
    ranks().on_main(lambda: open_folder(folder, overwrite=overwrite))
    job = Job(dataset, subject, chosen, resolve_device(device), seed, augment)
    trained = train_classifier(job, console)
    if hint := one_class(trained.scores, dataset):
        console.say(hint)
    result = summary(job, trained, Path(name).stem, folder)
    if ranks().is_main:
        save(folder, job, trained, result, with_features=save_features)
    click.echo(json.dumps(result) if as_json else "\n".join(_lines(result)))


if __name__ == "__main__":
    main()
