"""The work of `train/finetune.py`, where it is described, once the options are checked."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from skelpipe.dataset import Dataset
from skelpipe.devices import resolve_device
from skelpipe.door.visible import visible_lines
from skelpipe.front.descriptions import counted
from skelpipe.train.evaluation.beginning import check_subsets
from skelpipe.train.evaluation.classifier_file import Origin, export_classifier
from skelpipe.train.evaluation.dataset_rows import labelled, without_subject
from skelpipe.train.evaluation.metrics import topk_accuracy
from skelpipe.train.evaluation.outcome import Scores, metadata_of, write_outcome
from skelpipe.train.papers.reported import reference, reference_metadata, reported, reported_text
from skelpipe.train.recipes.schema import FinetuneRecipe
from skelpipe.train.reporting.logged import log_outcome
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.provenance import dataset_name
from skelpipe.train.running.ranks import ranks, together
from skelpipe.train.running.run import RunOptions
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import Console
from skelpipe.train.training import finetuning
from skelpipe.train.training.finetuning import Finetuned
from skelpipe.train.training.finetuning_start import Request, Start, choose_start

__all__ = ["run"]

PROTOCOL = "finetune"  # in the papers' tables: fine-tuning with any share of the labels, and from scratch


@dataclass(frozen=True)
class FinetuneOptions:
    """The command line, one field per option; None where the recipe or a default decides."""

    shards: str
    cache: Path | None
    cache_size: int | None
    checkpoint: str | None
    recipe: str | None
    labels: float
    holdout_subject: int | None
    view: str | None
    epochs: int | None
    batch_size: int | None
    lr: float | None
    settings: tuple[str, ...]
    balanced: bool
    out: Path | None
    resume: bool
    overwrite: bool
    save_every: int | timedelta
    test_every: int
    amp: bool
    device: str
    seed: int
    as_json: bool

    def request(self) -> Request:
        """Return the part that says what is trained."""
        return Request(**{each.name: getattr(self, each.name) for each in fields(Request)})

    def run_options(self, out: Path) -> RunOptions:
        """Return the part that says how to run; `out` is the default of the folder."""
        return RunOptions(
            out=self.out or out,
            device=resolve_device(self.device),
            resume=self.resume,
            overwrite=self.overwrite,
            save_every=self.save_every,
            measure_every=self.test_every,
        )


@dataclass(frozen=True)
class LabelledTraining:
    """What is trained, and on which clips: `rows` is `dataset`, or the part of it that is used."""

    dataset: Dataset
    rows: Dataset
    start: Start
    seed: int
    labels: float
    holdout_subject: int | None

    @classmethod
    def of(cls, dataset: Dataset, options: FinetuneOptions, console: Console) -> "LabelledTraining":
        """Choose the clips (a training subject held out, then a share of the labels) and the network."""
        rows = dataset if options.holdout_subject is None else without_subject(dataset, options.holdout_subject)
        rows = labelled(rows, options.labels, options.seed)
        check_subsets(rows, console.say)
        start = choose_start(dataset, options.request(), console)
        start = replace(start, recipe=fit_recipe(start.recipe, rows, console.say))
        return cls(dataset, rows, start, options.seed, options.labels, options.holdout_subject)

    @property
    def on_test_subset(self) -> bool:
        """Whether the test subset is tested on, not a training subject held out."""
        return self.holdout_subject is None

    @property
    def tested(self) -> str:
        """The name of the clips that are tested on."""
        return "test" if self.on_test_subset else f"train, subject {self.holdout_subject}"

    @property
    def out(self) -> Path:
        """The default folder of the run."""
        start, held = self.start, "" if self.on_test_subset else f"-without-{self.holdout_subject}"
        return Path("runs") / f"{start.protocol}-{dataset_name(self.dataset)}-{start.view}-{start.name}{held}"


def fit_recipe(recipe: FinetuneRecipe, rows: Dataset, say: Callable[[str], None]) -> FinetuneRecipe:
    """Return the recipe with a batch no larger than the number of training clips; a change is said in one line."""
    count = rows.count("train")
    if count >= recipe.batch_size:
        return recipe
    say(f"batch_size {recipe.batch_size} lowered to {count}: there are no more training clips")
    return replace(recipe, batch_size=count)


def finetune(training: LabelledTraining, options: RunOptions, amp: bool, console: Console) -> dict[str, Any]:
    """Train, write the run's folder and return what --json prints."""
    start, dataset, rows = training.start, training.dataset, training.rows
    provenance = finetuning.provenance_of(rows, start.classifier, start.recipe, start.view, training.seed, amp)
    console.say(
        f"{start.network.name}, recipe {start.recipe_name}, on {dataset_name(dataset)} ({start.view}): "
        f"{counted(rows.count('train'), 'training clip')}, {rows.count('test')} to test ({training.tested}), "
        f"{options.device}, run {options.out}"
    )
    done = finetuning.finetune(rows, start.classifier, provenance, options, console)
    compared = replace(start.network, recipe=start.recipe) if start.from_scratch else start.network
    evaluated = None if start.from_scratch else start.recipe
    held = None
    if training.on_test_subset:
        held = reference(dataset, compared, PROTOCOL, training.labels, evaluated)
    result = {
        "protocol": start.protocol,
        "dataset": dataset_name(dataset),
        "digest": dataset.digest,
        "split": training.tested,
        "view": start.view,
        "what": start.network.name,
        "run": str(options.out),
        "recipe": start.recipe_name,
        "labels": training.labels,
        "seed": training.seed,
        "epochs": done.epoch,
        "clips": {subset: rows.count(subset) for subset in ("train", "test")},
        **_figures(done),
        "chance": 100.0 / len(set(rows.labels("train").tolist())),
        "reported": reported(held, dataset),
    }
    about = metadata_of(result, dataset.classes) | reference_metadata(held, dataset)
    scores = Scores(done.tested.ids, done.tested.labels.numpy(), done.tested.features.numpy(), about)

    def write() -> None:
        network = done.classifier
        origin = _origin(training, result, amp)
        export_classifier(RunFolder(options.out).classifier, network.encoder, network.head, origin)
        write_outcome(options.out, scores, result)
        write_report(options.out, dataset)
        log_outcome(options.out, trained=True)

    ranks().on_main(write)
    return result


def _origin(training: LabelledTraining, result: Mapping[str, Any], amp: bool) -> Origin:
    start, where = training.start, dataset_name(training.dataset)
    return Origin.of(
        training.dataset,
        protocol=start.protocol,
        what=start.network.name + ("" if start.from_scratch else f", then with labels on {where}"),
        method=start.network.method or "",
        trained_on=where,
        view=start.view,
        seed=training.seed,
        amp=amp,
        epoch=result["epochs"],
        encoder=start.network.architecture or {},
        recipe=start.recipe.content(),
    )


def _figures(done: Finetuned) -> dict[str, Any]:
    """Return the accuracies after the last epoch, and the best of those measured on the way, with its epoch."""
    scores, labels = done.tested.features.numpy(), done.tested.labels.numpy()
    best = done.best
    final = {f"top{k}": topk_accuracy(scores, labels, k) for k in (1, 5)}
    if best.get("top1", -1.0) <= final["top1"]:
        best = {"top1": final["top1"], "epoch": best.get("epoch", done.epoch)}
    return {"figures": {**final, "best_top1": best["top1"]}, "best_epoch": int(best["epoch"])}


def _lines(result: dict[str, Any]) -> list[str]:
    figures, clips = result["figures"], result["clips"]
    return [
        f"{result['run']}: {result['what']}, {clips['train']} training and "
        f"{counted(clips['test'], 'test clip')} of "
        f"{result['dataset']}",
        f"top1      {figures['top1']:6.2f} %   after the last of {counted(result['epochs'], 'epoch')}"
        + reported_text(result, "top1"),
        f"best_top1 {figures['best_top1']:6.2f} %   after epoch {result['best_epoch']}, chosen on these clips",
        f"top5      {figures['top5']:6.2f} %",
        f"chance    {result['chance']:6.2f} %",
    ]


@together
def run(**given: Any) -> None:
    """Do what the command asks for."""
    options = FinetuneOptions(**given)
    console = Console()
    dataset = Dataset.open(options.shards, cache=options.cache, cache_size=options.cache_size)
    training = LabelledTraining.of(dataset, options, console)
    result = finetune(training, options.run_options(training.out), options.amp, console)
    click.echo(json.dumps(result) if options.as_json else visible_lines(_lines(result)))
