"""The work of `train/predict.py`, where it is described, once the options are checked."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.devices import resolve_device
from skelpipe.door.visible import visible, visible_lines
from skelpipe.errors import RawError
from skelpipe.manifest import Manifest
from skelpipe.raw.piped import joined, read_piped
from skelpipe.raw.readers import RecordingReader
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile
from skelpipe.train.evaluation.live import LiveRecogniser, Prediction
from skelpipe.train.evaluation.recogniser import Recogniser, open_recogniser
from skelpipe.train.inference.classifier import BATCH, Classifier, maker_of
from skelpipe.train.inference.recordings import recordings as recordings_of
from skelpipe.train.running.run_log import Console

__all__ = ["clips_of", "run"]

PIPE = "-"
SHOWN = 3  # actions per window, in a line for people


class Pieces:
    """Recordings of raw files, or of the pipe, in pieces: frame by frame where the pipe's lines are frames.

    `name` stands for the pipe in messages and results, `format_` is one of `PIPE_FORMATS` or empty.
    """

    def __init__(self, recogniser: Recogniser, name: str = "", format_: str = "") -> None:
        self._recogniser = recogniser
        self._reader = RecordingReader(recogniser.manifest, recogniser.bodies)
        self._name, self._format = name or "stdin", format_

    def __call__(self, file: RawFile) -> Iterator[Recording]:
        """Yield the pieces of a recording; RawError, naming the file, where it is missing or damaged."""
        if file.path != PIPE:
            yield self._reader.read(file)
            return
        manifest, bodies = self._recogniser.manifest, self._recogniser.bodies
        yield from read_piped(sys.stdin.buffer, manifest, bodies, self._format, self._name)

    def place(self, file: RawFile) -> str:
        """Return the path, or the name that stands for the pipe."""
        return self._name if file.path == PIPE else file.path

    def identity(self, file: RawFile) -> str:
        """Return the id of a recording, as its name tells it."""
        return maker_of(self._recogniser).name(self._name if file.path == PIPE else file.named)


@contextmanager
def files_of(names: Sequence[str], manifest: Manifest) -> Iterator[list[RawFile]]:
    """Yield the recordings of files, folders, archives and URLs in their order; `-` is the pipe."""
    if PIPE not in names:
        with recordings_of(names, manifest, quiet=False) as (files, _):
            yield files
        return
    at = names.index(PIPE)
    before, after = names[:at], names[at + 1 :]
    with files_of(before, manifest) as first, files_of(after, manifest) as last:
        yield [*first, RawFile(PIPE, PIPE, 0), *last]


def clips_of(files: Sequence[RawFile], recogniser: Recogniser, pieces: Pieces | None = None) -> np.ndarray:
    """Return the recordings in raw files as joint clips, float32 [n,C,T,V,M], made like a classifier's own clips.

    RawError, naming the file, where one is missing or damaged or has no body.
    """
    pieces, maker = pieces or Pieces(recogniser), maker_of(recogniser)
    clips = np.empty((len(files), *maker.shape), np.float32)
    for file, clip in zip(files, clips, strict=True):
        maker.fill(joined(pieces(file)), pieces.place(file), clip)
    return maker.stored(clips)


def windows(
    live: LiveRecogniser, files: Sequence[RawFile], pieces: Pieces
) -> Iterator[tuple[RawFile, Prediction]]:
    """Yield file and prediction of each window of some recordings, as soon as its last frame is read."""
    for file in files:
        try:
            for piece in pieces(file):
                for found in live.push_recording(piece):
                    yield file, found
            if (found_last := live.finish()) is not None:
                yield file, found_last
        except RawError as error:
            place = pieces.place(file)
            raise RawError(str(error) if str(error).startswith(place) else f"{place}: {error}") from None


def span(path: str, found: Prediction, *, as_json: bool) -> str:
    """Return a window as a line: of JSON, or for people."""
    if as_json:
        seconds = {} if found.seconds is None else {"begin": found.seconds[0], "end": found.seconds[1]}
        frames = {"first": found.first, "last": found.last, **seconds}
        more = ({"short": True} if found.short else {}) | ({"why": found.why} if found.why else {})
        return json.dumps({"id": path, **frames, **more, "top": found.top})
    seconds_too = "" if found.seconds is None else f"  {found.seconds[0]:7.2f}-{found.seconds[1]:7.2f} s"
    actions = [f"{each['action']} {each['name']} {100 * each['probability']:.1f} %" for each in found.top[:SHOWN]]
    short = "  (fewer frames than a window)" if found.short else ""
    return visible(
        f"{path}  {found.first:>6}-{found.last:>6}{seconds_too}  {', '.join(actions) or found.why}{short}"
    )


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


def run(
    checkpoint: str,
    dataset: str | None,
    view: str | None,
    frames: int | None,
    shards: str | None,
    window: int | None,
    stride: int | None,
    fps: float | None,
    name: str | None,
    format_: str | None,
    device: str,
    as_json: bool,
    recordings: tuple[str, ...],
) -> None:
    """Do what the command asks for."""
    recogniser = open_recogniser(checkpoint, dataset, view, frames, Console().say)
    classifier = Classifier(recogniser, resolve_device(device))
    if shards is not None:
        entries = classifier.predict(Dataset.open(shards), ids=recordings or None, quiet=False).top()
        click.echo(shown(entries, as_json=as_json))
        return
    pieces = Pieces(recogniser, name or "", format_ or "")
    with files_of(recordings, recogniser.manifest) as files:
        if window is not None:
            for file, found in windows(classifier.live(window, stride, fps=fps), files, pieces):
                click.echo(span(pieces.identity(file), found, as_json=as_json))
            return
        by_place = {pieces.place(file): file for file in files}

        def clips(places: Sequence[str]) -> np.ndarray:
            return clips_of([by_place[place] for place in places], recogniser, pieces)

        places = [pieces.place(file) for file in files]
        top = classifier.over(places, clips, BATCH, what="recordings", quiet=False).top()
        entries = [{**entry, "id": pieces.identity(by_place[entry["id"]])} for entry in top]
    click.echo(shown(entries, as_json=as_json))


def shown(entries: Sequence[dict[str, Any]], *, as_json: bool) -> str:
    """Return the actions of recordings as a JSON object, or as lines for people."""
    return json.dumps({"recordings": entries}) if as_json else visible_lines(_lines(entries))
