"""The work of `train/segment.py`, where it is described, once the options are checked."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from skelpipe.door.visible import visible_lines
from skelpipe.errors import UsageError
from skelpipe.files import replacing
from skelpipe.front.descriptions import counted
from skelpipe.train.evaluation.beginning import Evaluation, EvaluationOptions, begin
from skelpipe.train.evaluation.metrics import confusion
from skelpipe.train.evaluation.outcome import TIMELINES, Scores, metadata_of, write_outcome
from skelpipe.train.evaluation.outcome_folder import OF_SEGMENT, SEGMENTS
from skelpipe.train.evaluation.segmentation_metrics import runs, segmentation_figures
from skelpipe.train.evaluation.segmenter import frame_scores, train_segmenter
from skelpipe.train.evaluation.segmenter_settings import SegmenterSettings
from skelpipe.train.evaluation.timeline_plot import Timeline, draw_timelines
from skelpipe.train.evaluation.weights_hash import WeightsHash
from skelpipe.train.evaluation.windows import Windows
from skelpipe.train.papers.reported import reference, reference_metadata, reported, reported_text
from skelpipe.train.reporting.logged import log_outcome
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.ranks import ranks, together

__all__ = ["run"]

PROTOCOL = "segment"
BACKGROUND = "background"
TRAINING = ("epochs", "batch_size", "lr", "milestones", "windows", "window", "finetune")


@dataclass(frozen=True, kw_only=True)
class SegmentOptions(EvaluationOptions):
    """Options except those of training. `videos`: how many to draw, `named`: ids to draw instead."""

    features: str | None = "h"
    stride: int
    videos: int
    named: tuple[str, ...]


def segment(
    evaluation: Evaluation, settings: SegmenterSettings, stride: int
) -> tuple[Windows, Scores, list[dict[str, Any]]]:
    """Train on the training videos and score every frame of the test videos."""
    dataset, network, device = evaluation.dataset, evaluation.network, evaluation.device
    train, test = (Windows(dataset, subset, network.view, settings.window) for subset in ("train", "test"))
    encoder, names, console = network.encoder, [BACKGROUND, *dataset.classes], evaluation.console

    def say(record: Mapping[str, Any]) -> None:
        text = f"epoch {record['epoch']}/{settings.epochs}: loss {record['loss']:.4f}"
        (console.say if record["epoch"] == settings.epochs else console.working)(text)

    weights_hash = WeightsHash.of(encoder)
    head, log = train_segmenter(encoder, network.feature_dim, len(names), train, settings, device, say)
    scores = frame_scores(encoder, head, test, device, stride=stride, quiet=False)
    if not settings.finetune:
        weights_hash.check(encoder)
    about = metadata_of(evaluation.facts(), names)
    about |= reference_metadata(reference(dataset, network, PROTOCOL), dataset)
    return test, Scores(test.names(), test.labels, scores, about), log


def summary(evaluation: Evaluation, settings: SegmenterSettings, stride: int, scores: Scores) -> dict[str, Any]:
    """Return what --json prints."""
    dataset = evaluation.dataset
    videos = {subset: dataset.videos(subset) for subset in ("train", "test")}
    matrix = confusion(scores.labels, scores.predicted, len(scores.classes))
    return {
        **evaluation.facts(),
        "encoder": "finetuned" if settings.finetune else "frozen",
        "window": settings.window,
        "stride": stride,
        "videos": {subset: len(found) for subset, found in videos.items()},
        "frames": {subset: int(found.frames.sum()) for subset, found in videos.items()},
        "figures": segmentation_figures(matrix),
        "background": 100.0 * float((scores.labels == 0).mean()),
        "reported": reported(reference(dataset, evaluation.network, PROTOCOL), dataset),
    }


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the result as lines for people."""
    videos, frames = result["videos"], result["frames"]
    text = [
        f"{result['what']}: {result['encoder']} encoder, {result['view']} view, {result['window']}-frame windows",
        f"{videos['train']} training and {counted(videos['test'], 'test video')} of {result['dataset']}, "
        f"{counted(frames['test'], 'test frame')}",
    ]
    for name, figure in result["figures"].items():
        text.append(f"{name:8} {figure:6.2f} %{reported_text(result, name)}")
    text.append(f"{result['background']:.2f} % of the test frames are background: the ACC of predicting no action")
    return [*text, f"written to {result['run']}"]


def write_segments(path: Path, windows: Windows, scores: Scores) -> None:
    """Write the runs of equal classes, true and predicted, as CSV; frames count from 1, the last one included."""
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


def picture(path: Path, windows: Windows, scores: Scores, videos: Sequence[int], title: str) -> bool:
    """Draw these videos, by their numbers; see `draw_timelines`."""
    predicted = scores.predicted
    chosen = [(windows.ids[video], windows.frames_of(video)) for video in videos]
    timelines = [Timeline(id_, scores.labels[own], predicted[own]) for id_, own in chosen]
    return draw_timelines(timelines, scores.classes, title, path)


def save(
    folder: Path,
    windows: Windows,
    scores: Scores,
    result: Mapping[str, Any],
    videos: Sequence[int],
    say: Callable[[str], None],
) -> None:
    """Write what only a segmentation has: its segments and the timelines of these videos."""
    title = f"{result['what']}, {result['view']}: mIoU {result['figures']['miou']:.2f} %"
    if videos and not picture(folder / TIMELINES, windows, scores, videos, title):
        say("no picture: drawing needs matplotlib (pip install 'skelpipe[plot]')")
    write_segments(folder / SEGMENTS, windows, scores)


def pick(ids: Sequence[str], count: int, named: Sequence[str]) -> list[int]:
    """Return the numbers of the named videos, or else of `count` videos spread evenly over all.

    Raises UsageError for a name that is not among `ids`.
    """
    if unknown := [name for name in named if name not in ids]:
        raise UsageError(f"--video {unknown[0]}: there is no such test video; there are: {', '.join(ids[:5])} ...")
    if named:
        return [ids.index(name) for name in named]
    return (
        np.unique(np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)).tolist() if count else []
    )


@together
def run(**given: Any) -> None:
    """Do what the command asks for."""
    training = {name: given.pop(name) for name in TRAINING}
    options, settings = SegmentOptions(**given), SegmenterSettings(seed=given["seed"], **training)
    evaluation = begin(PROTOCOL, options)
    drawn = pick(evaluation.dataset.videos("test").ids, options.videos, options.named)
    folder = evaluation.open_folder("-finetuned" * settings.finetune, also=OF_SEGMENT)
    windows, scores, log = segment(evaluation, settings, options.stride)
    result = summary(evaluation, settings, options.stride, scores) | {"run": str(folder)}

    def write() -> None:
        save(folder, windows, scores, result, drawn, evaluation.console.say)
        used = {"protocol": PROTOCOL, **_plain(settings), "stride": options.stride}
        write_outcome(folder, scores, result, log=log, settings=used | evaluation.network.pretraining())
        write_report(folder, evaluation.dataset)
        log_outcome(folder)

    ranks().on_main(write)
    click.echo(json.dumps(result) if options.as_json else visible_lines(lines(result)))


def _plain(settings: SegmenterSettings) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
