"""Say which actions raw recordings show, with the classifier of a linear evaluation.

    python train/predict.py --checkpoint aimclr_linear.pt S001C001P001R001A001.skeleton
    python train/predict.py --checkpoint aimclr_linear.pt --json recordings/*.skeleton

An installed skelpipe needs no checkout: `python -m skelpipe.train.predict --checkpoint ...`.

Recordings are preprocessed as the checkpoint's clips were: profile `crosclr`, as many frames as its paper takes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from skelpipe.cli.options import device_option, errors_as_messages, json_option
from skelpipe.devices import resolve_device
from skelpipe.errors import RawError, SkelpipeError, UsageError
from skelpipe.manifest import Manifest
from skelpipe.models.authors import Loaded
from skelpipe.preprocess import crosclr
from skelpipe.progress import progress
from skelpipe.raw import READERS
from skelpipe.raw.source import TextBuffer
from skelpipe.schema import load_manifest
from skelpipe.train.released import PERSONS, default_view, read_released
from skelpipe.train.runlog import Console
from skelpipe.views import VIEWS, derive

__all__ = ["clips_of", "main", "scores"]

BATCH = 64
TOP = 5
BY_CLASSES = {60: "ntu60", 120: "ntu120"}


def open_classifier(checkpoint: str) -> Loaded:
    """Return a released file that has a classifier; UsageError for every other kind of file."""
    path = Path(checkpoint)
    if not path.exists():
        raise UsageError(f"{checkpoint}: there is no such file")
    loaded = None if path.is_dir() else read_released(path)
    if loaded is None or loaded.kind != "linear":
        raise UsageError(
            f"{checkpoint}: holds no classifier, so it cannot name actions: pass the file of a linear evaluation "
            "by the papers' code (what is trained here is judged by train/knn.py and train/linear.py)"
        )
    return loaded


def class_names(loaded: Loaded, dataset: str | None) -> Manifest:
    """Return the dataset whose actions the classifier names; the number of its classes tells NTU's."""
    name = dataset or BY_CLASSES.get(loaded.classes or 0)
    if name is None:
        raise UsageError(
            f"{loaded.path}: of which dataset are its {loaded.classes} classes? Name it with --dataset"
        )
    manifest = load_manifest(name)
    if len(manifest.classes) != loaded.classes:
        raise UsageError(
            f"{loaded.path}: has {loaded.classes} classes, {manifest.name} has {len(manifest.classes)}"
        )
    if manifest.layout.name != loaded.layout.name:
        raise UsageError(f"{loaded.path}: is for {loaded.layout.name}, {manifest.name} for {manifest.layout.name}")
    return manifest


def clips_of(paths: Sequence[str], manifest: Manifest, frames: int) -> np.ndarray:
    """Return the recordings in raw files as clips, float32 [n,3,T,V,2], of profile `crosclr`.

    RawError, naming the file, where one is missing or damaged or shows nobody.
    """
    joints = len(manifest.layout)
    clips = np.empty((len(paths), 3, frames, joints, PERSONS), np.float32)
    text = TextBuffer()
    for path, clip in zip(paths, clips, strict=True):
        recording = READERS[manifest.reader](text.read(path), path, joints)
        if not recording.bodies:
            raise RawError(f"{path}: no body in any of its {recording.frames} frames")
        crosclr(recording, manifest.layout, frames, PERSONS, clip)
    return clips


@torch.no_grad()
def scores(loaded: Loaded, clips: Tensor, views: Sequence[str]) -> Tensor:
    """Return the classifier's scores [n, classes] of joint clips [n,3,T,V,M], their mean over several views."""
    total = []
    for view in views:
        branch = loaded.branch(view)
        assert branch.classifier is not None
        total.append(branch.classifier(branch.encoder(derive(clips, view, loaded.layout))))
    return torch.stack(total).mean(dim=0)


def predict(
    loaded: Loaded,
    manifest: Manifest,
    paths: Sequence[str],
    views: Sequence[str],
    frames: int,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Return an entry a recording: its id and the likeliest actions, counted from 1, with name and probability."""
    for view in views:
        branch = loaded.branch(view)
        branch.encoder.to(device)
        if branch.classifier is not None:
            branch.classifier.to(device)
    entries = []
    starts = range(0, len(paths), BATCH)
    for start in progress(starts, "recordings", len(starts), quiet=len(starts) == 1):
        batch = paths[start : start + BATCH]
        clips = torch.from_numpy(clips_of(batch, manifest, frames)).to(device)
        probabilities = torch.softmax(scores(loaded, clips, views).double(), dim=1).cpu()
        for path, row in zip(batch, probabilities, strict=True):
            if not row.isfinite().all():
                raise SkelpipeError(
                    f"{path}: the scores are not finite: a coordinate is too large, or {loaded.path} is damaged"
                )
            top = row.topk(min(TOP, len(row)))
            actions = [
                {"action": label + 1, "name": manifest.classes[label], "probability": probability}
                for label, probability in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            ]
            entries.append({"id": manifest.identity(Path(path).name) or Path(path).stem, "top": actions})
    return entries


def _lines(entries: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for entry in entries:
        lines.append(entry["id"])
        width = max(len(action["name"]) for action in entry["top"])
        lines += [
            f"  {action['action']:>3}  {action['name']:{width}}  {100 * action['probability']:6.2f} %"
            for action in entry["top"]
        ]
    return lines


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: python train/predict.py --checkpoint aimclr_linear.pt S001C001P001R001A001.skeleton",
)
@click.option("--checkpoint", required=True, metavar="FILE", help="Released file of a linear evaluation.")
@click.option(
    "--dataset", metavar="NAME|FILE", help="Whose actions its classes are [default: ntu60 for 60, ntu120 for 120]."
)
@click.option(
    "--view",
    type=click.Choice(list(VIEWS)),
    help="Stream it was trained on [default: those the file names, else joint].",
)
@click.option(
    "--frames", type=click.IntRange(min=1), help="Frames of the clips it was trained on [default: its paper's]."
)
@device_option
@json_option
@click.argument("recordings", nargs=-1, required=True, metavar="RAW...")
@errors_as_messages
def main(
    checkpoint: str,
    dataset: str | None,
    view: str | None,
    frames: int | None,
    device: str,
    as_json: bool,
    recordings: tuple[str, ...],
) -> None:
    """Print the five likeliest actions of each raw recording. File names may be any."""
    loaded = open_classifier(checkpoint)
    manifest = class_names(loaded, dataset)
    views = (view,) if view else loaded.views or (default_view(loaded, Console().say),)
    entries = predict(loaded, manifest, recordings, views, frames or loaded.frames, resolve_device(device))
    click.echo(json.dumps({"recordings": entries}) if as_json else "\n".join(_lines(entries)))


if __name__ == "__main__":
    main()
