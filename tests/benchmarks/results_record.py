"""The figures of finished runs, one line each, in a file that is small enough to be kept with the code.

A run is known by what it depends on: its options, the digests of its datasets, and the runs that it begins with.
So what was run on one machine need not be repeated on the next, and tables are made without any run.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.files import canonical_json, replacing
from skelpipe.train.evaluation.outcome import RESULT
from skelpipe.train.reproduction.work_folder import WorkFolder
from skelpipe.train.reproduction.work_plan import PRETRAIN, Command, WorkPlan
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import read_log

__all__ = ["Record", "Versions", "identity"]

Entry = Mapping[str, Any]


def identity(command: Command, anywhere: str = "") -> str:
    """Return a hash of what a run depends on; the file `anywhere` may lie anywhere."""
    parts = []
    for each in command.arguments:
        if isinstance(each, str):
            parts.append(Path(each).name if each and each == anywhere else each)
        elif isinstance(each, Dataset):
            parts.append(each.digest)
        else:
            parts.append(identity(each if isinstance(each, Command) else each.command, anywhere))
    return hashlib.sha256(canonical_json([command.module, *parts])).hexdigest()[:16]


@dataclass
class Record:
    """Entries by the name of their run. Each has its `key`, `figures`, `seconds` and the `code` that made it.

    That of a training has its `curve` instead: epochs and the accuracy of 20 neighbours of z.
    """

    anywhere: str = ""
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, anywhere: str = "") -> "Record":
        """Return the record in a file, an empty one where there is none."""
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return cls(anywhere, {entry.pop("run"): entry for entry in map(json.loads, lines)})

    def write(self, path: Path) -> None:
        with replacing(path) as file:
            for name, entry in sorted(self.entries.items()):
                file.write(json.dumps({"run": name, **entry}).encode() + b"\n")

    def of(self, command: Command) -> Entry | None:
        """Return what is known of a run; None if it is not there, or of other settings or clips."""
        entry = self.entries.get(command.name)
        return entry if entry is not None and entry["key"] == identity(command, self.anywhere) else None

    def collect(self, plan: WorkPlan, work: WorkFolder) -> None:
        """Add all finished runs of a work folder."""
        versions = Versions(work.out)
        for command in plan.commands.values():
            if work.state(command) != "done":
                continue
            run = work.run_of(command)
            if command.module == PRETRAIN:
                ended, found = RunFolder(run).weights, {"curve": _curve(run)}
            else:
                ended = run / RESULT
                figures = json.loads(ended.read_text("utf-8")).get("figures", {})
                found = {"figures": {name: round(value, 3) for name, value in figures.items()}}
            code = versions.at(ended.stat().st_mtime)
            entry = {"key": identity(command, self.anywhere), "seconds": work.seconds(command), "code": code}
            self.entries[command.name] = {**entry, **found}

    def left(self, plan: WorkPlan) -> WorkPlan:
        """Return what is left of a plan: runs that are not recorded, and those that they need."""
        kept: set[str] = set()
        for command in reversed(plan.commands.values()):
            if command.name in kept or self.of(command) is None:
                kept |= {command.name, *(each.name for each in command.needs)}
        return WorkPlan({name: command for name, command in plan.commands.items() if name in kept})

    def curve(self, commands: Iterable[Command | None]) -> list[tuple[int, float]]:
        """Return the curve of a training in one or several stages, empty where one is missing."""
        points: list[tuple[int, float]] = []
        for command in commands:
            entry = None if command is None else self.of(command)
            if entry is None:
                return []
            begun = points[-1][0] if points else 0
            points += [(begun + epoch, value) for epoch, value in entry["curve"]]
        return points


class Versions:
    """Which code ran at what time: a line in a work folder whenever it begins."""

    def __init__(self, out: Path) -> None:
        self._path = out / "versions"

    def begin(self, version: str) -> None:
        with self._path.open("a") as file:
            file.write(f"{time.time():.0f} {version}\n")

    def at(self, moment: float) -> str:
        """Return the version that ran then."""
        lines = [line.split() for line in self._path.read_text("utf-8").splitlines()]
        return [version for begun, version in lines if float(begun) <= moment][-1]


def _curve(run: Path) -> list[list[float]]:
    """Return pairs of epochs and accuracy of 20 neighbours of z on test clips; of several views, of joints."""
    points = []
    for line in read_log(RunFolder(run).log):
        value = next((line[each] for each in ("knn@20", "joint_knn@20") if each in line), None)
        if value is not None:
            points.append([int(line["epoch"]), round(float(value), 3)])
    return points
