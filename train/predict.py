"""Name the actions that raw recordings show, with a classifier that was trained with labels.

    python train/predict.py --checkpoint runs/linear-ntu60-xsub-joint-aimclr S001C001P001R001A001.skeleton
    python train/predict.py --checkpoint runs/finetune-ntu60-xsub-joint-aimclr --json recordings/*.skeleton
    python train/predict.py --checkpoint aimclr_linear.pt S001C001P001R001A001.skeleton
    python train/predict.py --checkpoint aimclr_linear.pt --shards data/ntu60-xsub S001C001P001R001A001

An installed skelpipe needs no checkout: `python -m skelpipe.train.predict --checkpoint ...`.

The classifier is that of a run of train/linear.py or train/finetune.py, or a released checkpoint of a linear
evaluation. Recordings are preprocessed as its training clips were: profile, frames and bodies.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from skelpipe.cli.command import Command
from skelpipe.cli.options import device_option, errors_as_messages, json_option
from skelpipe.dataset import Dataset
from skelpipe.devices import resolve_device
from skelpipe.errors import RawError, SkelpipeError, UsageError
from skelpipe.manifest import SUBSETS
from skelpipe.progress import progress
from skelpipe.raw.readers import RecordingReader
from skelpipe.raw.source import RawFile
from skelpipe.train.evaluation.recogniser import Recogniser, open_recogniser
from skelpipe.train.running.run_log import Console
from skelpipe.views import VIEWS

__all__ = ["clips_of", "main"]

BATCH = 64
TOP = 5


def clips_of(paths: Sequence[str], recogniser: Recogniser) -> np.ndarray:
    """Return the recordings in raw files as joint clips, float32 [n,C,T,V,M], made like a classifier's own clips.

    RawError, naming the file, where one is missing or damaged or has no body.
    """
    layout, frames, bodies = recogniser.manifest.layout, recogniser.frames, recogniser.bodies
    channels = len(recogniser.manifest.stored_channels)
    clips = np.empty((len(paths), channels, frames, len(layout), bodies), np.float32)
    reader = RecordingReader(recogniser.manifest, bodies)
    for path, clip in zip(paths, clips, strict=True):
        recording = reader.read(RawFile(Path(path).name, path, 0))
        if not recording.bodies:
            raise RawError(f"{path}: no body in any of its {recording.frames} frames")
        try:
            recogniser.write(recording, layout, frames, bodies, clip)
        except RawError as error:
            raise RawError(f"{path}: {error}") from None
    return clips.astype(recogniser.dtype).astype(np.float32)


class StoredClips:
    """Clips of a dataset by id, made like a classifier's own; UsageError where they were made otherwise."""

    def __init__(self, shards: str, recogniser: Recogniser) -> None:
        dataset = Dataset.open(shards)
        channels, frames, _, bodies = dataset.shape
        facts = {
            "layout": (recogniser.manifest.layout.name, dataset.layout.name),
            "preprocessing profile": (recogniser.profile, dataset.profile),
            "frames": (recogniser.frames, frames),
            "bodies": (recogniser.bodies, bodies),
            "channels": (len(recogniser.manifest.stored_channels), channels),
        }
        if wrong := [f"{name}: trained on {was}, found {now}" for name, (was, now) in facts.items() if was != now]:
            raise UsageError(f"{dataset.path}: does not fit {recogniser.path}: {'; '.join(wrong)}")
        self._readers = {subset: dataset.reader(subset, "joint") for subset in SUBSETS if dataset.count(subset)}
        self._rows = {
            identity: (subset, row) for subset in self._readers for row, identity in enumerate(dataset.ids(subset))
        }
        self._path = dataset.path

    @property
    def ids(self) -> list[str]:
        return list(self._rows)

    def __call__(self, ids: Sequence[str]) -> np.ndarray:
        """Return clips float32 [n,C,T,V,M]."""
        if unknown := [identity for identity in ids if identity not in self._rows]:
            raise UsageError(f"{self._path}: has no clip {unknown[0]!r}")
        places = [self._rows[identity] for identity in ids]
        return np.concatenate([self._readers[subset].gather(np.array([row])) for subset, row in places])


def predict(
    recogniser: Recogniser,
    names: Sequence[str],
    clips: Callable[[Sequence[str]], np.ndarray],
    device: torch.device,
) -> list[dict[str, Any]]:
    """Return one entry per name: its id and the likeliest actions with number (from 1), name, probability.

    `clips` returns the joint clips of some names, which are paths of raw files or ids of a dataset's clips.
    """
    recogniser.networks.to(device)
    entries = []
    starts = range(0, len(names), BATCH)
    for start in progress(starts, "recordings", len(starts), quiet=len(starts) == 1):
        batch = names[start : start + BATCH]
        scores = recogniser.scores(torch.from_numpy(clips(batch)).to(device))
        for path, row in zip(batch, torch.softmax(scores.double(), dim=1).cpu(), strict=True):
            if not row.isfinite().all():
                raise SkelpipeError(
                    f"{path}: the scores are not finite: a coordinate is too large, or {recogniser.path} is "
                    "damaged"
                )
            top = row.topk(min(TOP, len(row)))
            actions = [
                {"action": label + 1, "name": recogniser.classes[label], "probability": probability}
                for label, probability in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            ]
            entries.append({"id": path, "top": actions})
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
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: python train/predict.py --checkpoint runs/linear-ntu60-xsub-joint-aimclr a.skeleton",
)
@click.option(
    "--checkpoint",
    required=True,
    metavar="RUN|FILE",
    help="Run of train/linear.py or train/finetune.py, its classifier.safetensors, or a released file of a linear "
    "evaluation.",
)
@click.option(
    "--dataset",
    metavar="NAME|FILE",
    help="Whose files and actions these are [default: the run's; a released file's is ntu60 or ntu120].",
)
@click.option(
    "--view",
    type=click.Choice(list(VIEWS)),
    help="View it was trained on [default: what the file says, else joint].",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Frames of a clip [default: what the file says, else its paper's].",
)
@click.option(
    "--shards",
    metavar="URL",
    help="Dataset whose clips are named instead of raw files; RAW... are then ids of clips [default: all clips].",
)
@device_option
@json_option
@click.argument("recordings", nargs=-1, metavar="RAW...")
@errors_as_messages
def main(
    checkpoint: str,
    dataset: str | None,
    view: str | None,
    frames: int | None,
    shards: str | None,
    device: str,
    as_json: bool,
    recordings: tuple[str, ...],
) -> None:
    """Print the five likeliest actions of each raw recording. File names may be any."""
    recogniser = open_recogniser(checkpoint, dataset, view, frames, Console().say)
    if shards is not None:
        stored = StoredClips(shards, recogniser)
        entries = predict(recogniser, recordings or stored.ids, stored, resolve_device(device))
    elif recordings:
        entries = predict(
            recogniser, recordings, lambda paths: clips_of(paths, recogniser), resolve_device(device)
        )
        for entry in entries:
            name = Path(entry["id"])
            identity = recogniser.manifest.identity(str(name))
            if identity is not None and recogniser.manifest.fields(identity) is None:
                identity = name.name[: len(identity)]  # no recording's name: as it is written
            entry["id"] = identity or name.stem
    else:
        raise UsageError("name the raw files, or a dataset with --shards")
    click.echo(json.dumps({"recordings": entries}) if as_json else "\n".join(_lines(entries)))


if __name__ == "__main__":
    main()
