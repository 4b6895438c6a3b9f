"""Segment untrimmed videos: a class, or background, for every frame, judged by ACC, MACC, FWIoU and mIoU.

    python train/segment.py --shards data/pkummd2-xview --checkpoint runs/actclr-ntu60-xview-joint
    python train/segment.py --shards data/pkummd2-xview --checkpoint encoder.safetensors --finetune
    python train/segment.py --shards data/pkummd2-xview --baseline random --stride 8

An installed skelpipe needs no checkout: `python -m skelpipe.train.segment --shards ...`.

The dataset must have been prepared with --untrimmed. Spec E6: the window of 64 frames around a frame is a clip
like the dataset's own; the encoder stays as it is and a linear layer learns, on windows drawn at random from the
training videos, the class of the frame in the middle.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
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
from skelpipe.files import replacing
from skelpipe.train.evaluation.evaluated_network import Subject, choose_subject, default_folder
from skelpipe.train.evaluation.metrics import confusion
from skelpipe.train.evaluation.outcome import TIMELINES, Scores, open_folder, write_outcome
from skelpipe.train.evaluation.segmentation_metrics import runs, segmentation_figures
from skelpipe.train.evaluation.segmenter import Plan, frame_scores, train_segmenter
from skelpipe.train.evaluation.timeline_plot import Timeline, draw_timelines
from skelpipe.train.evaluation.weights_hash import WeightsHash
from skelpipe.train.evaluation.windows import WINDOW, Windows
from skelpipe.train.papers.reported import published, reference, reported, reported_text, told_by_scores
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.provenance import dataset_name
from skelpipe.train.running.ranks import ranks, together
from skelpipe.train.running.run_log import Console
from skelpipe.train.running.script_options import overwrite_option, subject_options

__all__ = ["main"]

PROTOCOL = "segment"
BACKGROUND = "background"
SEGMENTS = "segments.csv"


def segment(
    dataset: Dataset, subject: Subject, plan: Plan, stride: int, device: str, console: Console
) -> tuple[Windows, Scores, list[dict[str, Any]]]:
    """Train on the training videos and score every frame of the test videos."""
    train, test = (Windows(dataset, split, subject.view, plan.window) for split in ("train", "test"))
    place = resolve_device(device)
    encoder = subject.encoder.to(place)
    names = [BACKGROUND, *dataset.classes]

    def say(record: Mapping[str, Any]) -> None:
        text = f"epoch {record['epoch']}/{plan.epochs}: loss {record['loss']:.4f}"
        (console.say if record["epoch"] == plan.epochs else console.working)(text)

    seal = WeightsHash.of(encoder)
    head, log = train_segmenter(encoder, subject.feature_dim, len(names), train, plan, place, say)
    scores = frame_scores(encoder, head, test, place, stride=stride, quiet=False)
    if not plan.finetune:
        seal.check(encoder)
    about = {
        "protocol": PROTOCOL,
        "dataset": dataset_name(dataset),
        "digest": dataset.digest,
        "split": "test",
        "view": subject.view,
        "what": subject.name,
        "classes": json.dumps(names),
    }
    about |= told_by_scores(reference(dataset, subject, PROTOCOL), dataset)
    return test, Scores(test.names(), test.labels, scores, about), log


def summary(dataset: Dataset, subject: Subject, plan: Plan, stride: int, scores: Scores) -> dict[str, Any]:
    """Return what --json prints."""
    videos = {split: dataset.videos(split) for split in ("train", "test")}
    matrix = confusion(scores.labels, scores.predicted, len(scores.classes))
    return {
        "protocol": PROTOCOL,
        "what": subject.name,
        "dataset": dataset_name(dataset),
        "digest": dataset.digest,
        "split": "test",
        "view": subject.view,
        "features": subject.features,
        "encoder": "finetuned" if plan.finetune else "frozen",
        "window": plan.window,
        "stride": stride,
        "videos": {split: len(found) for split, found in videos.items()},
        "frames": {split: int(found.frames.sum()) for split, found in videos.items()},
        "figures": segmentation_figures(matrix),
        "background": 100.0 * float((scores.labels == 0).mean()),
        "reported": reported(reference(dataset, subject, PROTOCOL), published(dataset)),
    }


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the result as lines for people."""
    videos, frames = result["videos"], result["frames"]
    text = [
        f"{result['what']}: {result['encoder']} encoder, {result['view']} view, {result['window']}-frame windows",
        f"{videos['train']} training and {videos['test']} test videos of {result['dataset']}, "
        f"{frames['test']:,} test frames",
    ]
    for name, figure in result["figures"].items():
        text.append(f"{name:8} {figure:6.2f} %{reported_text(result, name)}")
    text.append(f"{result['background']:.2f} % of the test frames are background: the ACC of naming nothing")
    return [*text, f"written to {result['run']}"]


def write_segments(path: Path, windows: Windows, scores: Scores) -> None:
    """Write the runs of equal classes, true and predicted, as CSV; frames count from 1, both within."""
    names, predicted = scores.classes, scores.predicted
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("video", "kind", "first", "last", "class", "name"))
    for video, id_ in enumerate(windows.ids):
        own = windows.frames_of(video)
        for kind, labels in (("truth", scores.labels[own]), ("predicted", predicted[own])):
            writer.writerows((id_, kind, a + 1, b + 1, label, names[label]) for a, b, label in runs(labels))
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def picture(path: Path, windows: Windows, scores: Scores, wanted: Sequence[int], title: str) -> bool:
    """Draw these videos; see `draw_timelines`."""
    predicted = scores.predicted
    chosen = [(windows.ids[video], windows.frames_of(video)) for video in wanted]
    timelines = [Timeline(id_, scores.labels[own], predicted[own]) for id_, own in chosen]
    return draw_timelines(timelines, scores.classes, title, path)


def save(
    folder: Path,
    windows: Windows,
    scores: Scores,
    result: Mapping[str, Any],
    wanted: Sequence[int],
    console: Console,
) -> None:
    """Write what only a segmentation has: its segments and the timelines of the `wanted` videos."""
    title = f"{result['what']}, {result['view']}: mIoU {result['figures']['miou']:.2f} %"
    if wanted and not picture(folder / TIMELINES, windows, scores, wanted, title):
        console.say("no picture: drawing needs matplotlib (pip install 'skelpipe[plot]')")
    write_segments(folder / SEGMENTS, windows, scores)


def pick(ids: Sequence[str], count: int, named: Sequence[str]) -> list[int]:
    """Return the places of the named videos, else of `count` spread evenly over all.

    Raises UsageError for a name that is not among `ids`.
    """
    if unknown := [name for name in named if name not in ids]:
        raise UsageError(f"--video {unknown[0]}: there is no such test video; there are: {', '.join(ids[:5])} ...")
    if named:
        return [ids.index(name) for name in named]
    return (
        np.unique(np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)).tolist() if count else []
    )


def _milestones(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(text) for text in value.split(",") if text.strip())
    except ValueError:
        raise click.BadParameter("expected epochs, such as --milestones 30,50") from None


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: python train/segment.py --shards data/pkummd2-xview --baseline random --stride 8",
)
@shards_option
@cache_options
@subject_options
@click.option("--finetune", is_flag=True, help="Train the encoder too, in training mode.")
@click.option("--epochs", type=click.IntRange(min=1), default=Plan.epochs, show_default=True, help="Of training.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=Plan.batch_size, show_default=True, help="Windows."
)
@click.option(
    "--lr", type=click.FloatRange(min=0, min_open=True), default=Plan.lr, show_default=True, help="Of SGD."
)
@click.option(
    "--milestones", default="40", show_default=True, callback=_milestones, help="Epochs after which lr is a tenth."
)
@click.option(
    "--windows",
    type=click.IntRange(min=1),
    default=Plan.windows,
    show_default=True,
    help="Drawn a video and epoch.",
)
@click.option(
    "--window", type=click.IntRange(min=2), default=WINDOW, show_default=True, help="Frames of a window."
)
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Classify one frame in so many, for all of them.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: runs/segment-DATASET-VIEW-NAME].")
@overwrite_option
@click.option(
    "--videos", type=click.IntRange(min=0), default=8, show_default=True, help="Test videos that are drawn."
)
@click.option("--video", "named", multiple=True, metavar="ID", help="Draw this test video instead.")
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
    stride: int,
    out: Path | None,
    overwrite: bool,
    videos: int,
    named: tuple[str, ...],
    device: str,
    as_json: bool,
    **planned: Any,
) -> None:
    """Segment the test videos of a dataset frame by frame."""
    console = Console()
    dataset = Dataset.open(shards, cache=cache, cache_size=cache_size)
    plan = Plan(**planned)
    wanted = pick(dataset.videos("test").ids, videos, named)
    subject = choose_subject(
        dataset,
        checkpoint=checkpoint,
        baseline=baseline,
        recipe=recipe,
        settings=settings,
        view=view,
        features="h",
        seed=plan.seed,
        console=console,
    )
    tuned = "-finetuned" if plan.finetune else ""
    folder = out or default_folder(PROTOCOL, dataset, subject.view, checkpoint, baseline, tuned)
    ranks().on_main(lambda: open_folder(folder, overwrite=overwrite, also=(TIMELINES, SEGMENTS)))
    windows, scores, log = segment(dataset, subject, plan, stride, device, console)
    result = summary(dataset, subject, plan, stride, scores) | {"run": str(folder)}

    def write() -> None:
        save(folder, windows, scores, result, wanted, console)
        used = {"protocol": PROTOCOL, **_plain(plan), "stride": stride, **subject.pretraining()}
        write_outcome(folder, scores, result, log=log, settings=used)
        write_report(folder, dataset)

    ranks().on_main(write)
    click.echo(json.dumps(result) if as_json else "\n".join(lines(result)))


def _plain(plan: Plan) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(plan).items()}


if __name__ == "__main__":
    main()
