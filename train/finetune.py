"""Train a whole network with labels: a pre-trained one, or the supervised baseline from scratch.

    python train/finetune.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint
    python train/finetune.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint --labels 0.01
    python train/finetune.py --shards data/pkummd2-xsub --checkpoint aimclr_ntu60_xsub_joint.pt
    torchrun --nproc-per-node 8 train/finetune.py --shards data/ntu60-xsub --recipe supervised --amp
    python train/finetune.py --shards data/msr-action3d-xsub --recipe supervised-small --holdout-subject 3

An installed skelpipe needs no checkout: `python -m skelpipe.train.finetune --shards ...`.

A new linear layer with as many classes as the dataset has goes on top, so a checkpoint of another dataset is
transfer. The scores of the test clips, the log, all figures and the trained network (classifier.safetensors, for
train/predict.py and further evaluation) are left in the run's folder.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import click

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
from skelpipe.train.evaluation.dataset_rows import labelled, without_subject
from skelpipe.train.evaluation.metrics import topk_accuracy
from skelpipe.train.evaluation.outcome import Scores, write_outcome
from skelpipe.train.papers.reported import published, reference, reported, reported_text, told_by_scores
from skelpipe.train.recipes.reader import builtin_recipes
from skelpipe.train.recipes.schema import FinetuneRecipe
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.provenance import dataset_name
from skelpipe.train.running.ranks import ranks, together
from skelpipe.train.running.run import RunOptions
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import Console
from skelpipe.train.running.script_options import own_view_option, start_option, training_options
from skelpipe.train.training import finetuning
from skelpipe.train.training.finetuning import Finetuned
from skelpipe.train.training.finetuning_start import Request, Start, choose_start

__all__ = ["Job", "finetune", "main"]

PROTOCOL = "finetune"  # by which the papers' tables call fine-tuning with any share of the labels, or from scratch


@dataclass(frozen=True)
class Asked:
    """The command line, one field an option; None where the recipe or a default decides."""

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
    out: Path | None
    resume: bool
    overwrite: bool
    save_every: int
    test_every: int
    amp: bool
    device: str
    seed: int
    as_json: bool

    def request(self) -> Request:
        """Return the part that says what is trained."""
        return Request(**{each.name: getattr(self, each.name) for each in fields(Request)})

    def options(self, out: Path) -> RunOptions:
        """Return the part that says how a run in the folder `out` goes on."""
        return RunOptions(
            out=self.out or out,
            device=resolve_device(self.device),
            resume=self.resume,
            overwrite=self.overwrite,
            save_every=self.save_every,
            measure_every=self.test_every,
        )


@dataclass(frozen=True)
class Job:
    """What is trained, and on which clips: `part` is `dataset`, or its training side divided."""

    dataset: Dataset
    part: Dataset
    start: Start
    seed: int
    labels: float
    holdout_subject: int | None

    @classmethod
    def of(cls, dataset: Dataset, asked: Asked, console: Console) -> "Job":
        """Choose the clips (a training subject held out, then a share of the labels) and the network."""
        part = dataset if asked.holdout_subject is None else without_subject(dataset, asked.holdout_subject)
        part = labelled(part, asked.labels, asked.seed)
        check_splits(part, console.say)
        start = choose_start(dataset, asked.request(), console)
        start = replace(start, recipe=fit_recipe(start.recipe, part, console.say))
        return cls(dataset, part, start, asked.seed, asked.labels, asked.holdout_subject)

    @property
    def whole(self) -> bool:
        """Whether the test split is tested on."""
        return self.holdout_subject is None

    @property
    def split(self) -> str:
        """The clips that are tested on."""
        return "test" if self.whole else f"train, subject {self.holdout_subject}"

    @property
    def out(self) -> Path:
        """The folder of the run where none is named."""
        start, held = self.start, "" if self.whole else f"-without-{self.holdout_subject}"
        return Path("runs") / f"{start.protocol}-{dataset_name(self.dataset)}-{start.view}-{start.name}{held}"


def fit_recipe(recipe: FinetuneRecipe, part: Dataset, say: Callable[[str], None]) -> FinetuneRecipe:
    """Return the recipe with a batch no larger than what there is to train on; a change is said in one line."""
    count = part.count("train")
    if count >= recipe.batch_size:
        return recipe
    say(f"batch_size {recipe.batch_size} lowered to {count}: there are no more training clips")
    return replace(recipe, batch_size=count)


def finetune(job: Job, options: RunOptions, amp: bool, console: Console) -> dict[str, Any]:
    """Train, leave the run's folder behind and return what --json prints."""
    start, part = job.start, job.part
    provenance = finetuning.provenance_of(part, start.classifier, start.recipe, start.view, job.seed, amp)
    console.say(
        f"{start.subject.name}, recipe {start.recipe_name}, on {dataset_name(job.dataset)} ({start.view}): "
        f"{part.count('train')} training clips, {part.count('test')} to test ({job.split}), {options.device}, "
        f"run {options.out}"
    )
    done = finetuning.finetune(part, start.classifier, provenance, options, console)
    about = {
        "protocol": start.protocol,
        "dataset": dataset_name(job.dataset),
        "digest": job.dataset.digest,
        "split": job.split,
        "view": start.view,
        "what": start.subject.name,
    }
    held = reference(job.dataset, start.subject, PROTOCOL, job.labels) if job.whole else None
    result = {
        **about,
        "run": str(options.out),
        "recipe": start.recipe_name,
        "labels": job.labels,
        "seed": job.seed,
        "epochs": done.epoch,
        "clips": {side: part.count(side) for side in ("train", "test")},
        **_figures(done),
        "chance": 100.0 / len(set(part.labels("train").tolist())),
        "reported": reported(held, published(job.dataset)),
    }
    about |= {"classes": json.dumps(list(job.dataset.classes)), **told_by_scores(held, job.dataset)}
    scores = Scores(done.tested.ids, done.tested.labels.numpy(), done.tested.features.numpy(), about)

    def write() -> None:
        network = done.classifier
        origin = _origin(job, result, amp)
        export_classifier(RunFolder(options.out).classifier, network.encoder, network.head, origin)
        write_outcome(options.out, scores, result)
        write_report(options.out, job.dataset)

    ranks().on_main(write)
    return result


def _origin(job: Job, result: Mapping[str, Any], amp: bool) -> Origin:
    start, where = job.start, dataset_name(job.dataset)
    return Origin.of(
        job.dataset,
        protocol=start.protocol,
        what=start.subject.name + ("" if start.from_scratch else f", then with labels on {where}"),
        method=start.subject.method or "",
        trained_on=where,
        view=start.view,
        seed=job.seed,
        amp=amp,
        epoch=result["epochs"],
        encoder=start.subject.architecture or {},
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
        f"{result['run']}: {result['what']}, {clips['train']} training and {clips['test']} test clips of "
        f"{result['dataset']}",
        f"top1      {figures['top1']:6.2f} %   after the last of {result['epochs']} epochs"
        + reported_text(result, "top1"),
        f"best_top1 {figures['best_top1']:6.2f} %   after epoch {result['best_epoch']}, chosen on these clips",
        f"top5      {figures['top5']:6.2f} %",
        f"chance    {result['chance']:6.2f} %",
    ]


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: python train/finetune.py --shards data/ntu60-xsub --recipe supervised",
)
@shards_option
@cache_options
@start_option
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help=f"How to train: {', '.join(builtin_recipes(FinetuneRecipe))}, or a YAML file [default: finetune, with "
    "fewer labels finetune-semi; from scratch supervised].",
)
@click.option(
    "--labels",
    type=float,
    default=1.0,
    show_default=True,
    help="Share of each class's training clips to train on, such as 0.1 or 0.01; --seed chooses them.",
)
@click.option(
    "--holdout-subject",
    type=int,
    metavar="N",
    help="Leave training subject N out and test on it, not on the test split: for choosing settings.",
)
@own_view_option
@training_options
@click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Override any value, such as modes=eval."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run folder [default: runs/PROTOCOL-DATASET-VIEW-NAME]."
)
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint of the run, if there is one.")
@click.option("--overwrite", is_flag=True, help="Delete the run that is there and start anew.")
@click.option(
    "--save-every", type=click.IntRange(min=1), default=10, show_default=True, help="Epochs between checkpoints."
)
@click.option(
    "--test-every",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Epochs between figures on the test clips; 0 for the last epoch only.",
)
@click.option("--amp", is_flag=True, help="Compute in bfloat16 where that is safe.")
@device_option
@seed_option
@json_option
@errors_as_messages
@together
def main(**given: Any) -> None:
    """Train all of a network with labels: fine-tuning, semi-supervised, transfer, or from scratch.

    Interrupted or killed, the same command with --resume goes on from the newest checkpoint.
    """
    asked = Asked(**given)
    if asked.resume and asked.overwrite:
        raise UsageError("--resume goes on with a run, --overwrite deletes it: give one of them")
    console = Console()
    job = Job.of(Dataset.open(asked.shards, cache=asked.cache, cache_size=asked.cache_size), asked, console)
    result = finetune(job, asked.options(job.out), asked.amp, console)
    click.echo(json.dumps(result) if asked.as_json else "\n".join(_lines(result)))


if __name__ == "__main__":
    main()
