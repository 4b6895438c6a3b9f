"""The logs of a run: JSON lines, the loggers of `--log`, and lines on the console."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import click

from skelpipe.door.refusals import refusal
from skelpipe.door.visible import beneath, visible
from skelpipe.errors import SkelpipeError
from skelpipe.files import replacing
from skelpipe.ownership import check_owned
from skelpipe.settings import flat
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_loggers import open_loggers
from skelpipe.yaml_reader import read_yaml

__all__ = ["Console", "RunLog", "read_log"]

PLAIN_LINE_EVERY = 10.0  # seconds between lines about an epoch in progress


class Console:
    """Lines for people, on stderr. Those of `working` overwrite each other on a terminal and are few elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic()
        self._half_line = False

    def say(self, text: str) -> None:
        """Print one line."""
        click.echo(("\r\x1b[K" if self._half_line else "") + visible(text), file=beneath(sys.stderr))
        self._half_line = False

    def working(self, text: str) -> None:
        """Show the progress of the work."""
        now = time.monotonic()
        if now - self._last < (0.2 if self._terminal else PLAIN_LINE_EVERY):
            return
        self._last = now
        if self._terminal:
            click.echo(f"\r\x1b[K{visible(text)}", file=beneath(sys.stderr), nl=False)
            self._half_line = True
        else:
            click.echo(text, err=True)

    def steps(self, epoch: int, last: int, steps: int) -> Callable[[int, float], None]:
        """Return a function that shows the progress of an epoch, given a step and the samples per second."""

        def show(step: int, rate: float) -> None:
            if step < steps:
                self.working(f"epoch {epoch}/{last}: step {step}/{steps}, {rate:,.0f} samples/s")

        return show


class RunLog:
    """Appends one record per epoch to `log.jsonl` and `speed.jsonl` and tells both to the loggers of `--log`.

    `done` is the number of epochs that count. Records after it come from a run that was interrupted before its
    next checkpoint; they are removed, since those epochs are trained again.
    """

    def __init__(self, folder: RunFolder, done: int, about: Mapping[str, Any] | None = None) -> None:
        """Open the logs of a run; loggers take the recipe and what else is said `about` it as hyper-parameters."""
        self._folder = folder.path
        self._files: list[IO[str]] = []
        for path in (folder.log, folder.speed):
            _trim(path, done)
            self._files.append(open(path, "a", encoding="utf-8", newline="\n"))  # noqa: SIM115 - closed by close()
        self._loggers = open_loggers(folder.path, done)
        if folder.recipe.is_file():
            self._loggers.params({**flat(read_yaml(folder.recipe)), **(about or {})})
        learned, speed = (
            {record["epoch"]: record for record in read_log(path)} for path in (folder.log, folder.speed)
        )
        for epoch in learned:
            self._loggers.scalars(epoch, {"train": learned[epoch], "speed": speed.get(epoch, {})})

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for file in self._files:
            with suppress(OSError):  # a full disk has refused the rest already
                file.close()
        if kind is not None:  # else what the run leaves is told to them as well
            self._loggers.close(failed=True)

    def write(self, epoch: int, learned: dict[str, Any], speed: dict[str, float]) -> None:
        """Log one finished epoch; SkelpipeError where the folder was removed since, or taken over."""
        check_owned(self._folder)
        for file, record in zip(self._files, (learned, speed), strict=True):
            try:
                file.write(json.dumps({"epoch": epoch, **record}, allow_nan=False) + "\n")
                file.flush()
            except OSError as error:
                raise SkelpipeError(f"{file.name}: cannot be written: {refusal(error, self._folder)}") from None
        self._loggers.scalars(epoch, {"train": learned, "speed": speed})

    def sync(self) -> None:
        """Write the records to disk, before a checkpoint that relies on them."""
        for file in self._files:
            try:
                os.fsync(file.fileno())
            except OSError as error:
                raise SkelpipeError(f"{file.name}: cannot be written: {refusal(error, self._folder)}") from None


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the complete records of a JSON-lines file; a last line that was cut short is left out."""
    records: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text("utf-8", errors="replace").splitlines(keepends=True):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not line.endswith("\n") or not isinstance(record, dict):
                break
            records.append(record)
    return records


def _trim(path: Path, done: int) -> None:
    if path.is_file():
        kept = [record for record in read_log(path) if record.get("epoch", done + 1) <= done]
        with replacing(path) as file:
            file.write("".join(json.dumps(record) + "\n" for record in kept).encode())
