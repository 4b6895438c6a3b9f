"""How the commands of a plan run side by side."""

import os
import signal
import sys
import time
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from skelpipe.dataset import Dataset
from skelpipe.door.signals import Ended, ending_on_signals
from skelpipe.train.reproduction.work_folder import WorkFolder
from skelpipe.train.reproduction.work_plan import Command, WorkPlan
from skelpipe.train.reproduction.work_queue import run_plan
from skelpipe.train.running.run_log import Console

# Notes when it begins and ends, in the folder of all runs, and leaves the result that an evaluation leaves.
NOTES = """
import json, os, pathlib, signal, sys, time
run, how = pathlib.Path(sys.argv[1]), sys.argv[2]
notes = run.parent / "notes"
def note(what):
    with notes.open("a") as file:
        file.write(f"{what} {run.name}\\n")
def stop(*_):
    note("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
note("begins")
if how == "fails":
    sys.exit("no such clip")
time.sleep(60 if how == "long" else 0.2)
run.mkdir()
(run / "result.json").write_text(json.dumps({"digest": "d"}))
note("ends")
print(json.dumps({"figures": {"top1": 50.0}}))
"""


class NamedDataset(Dataset):
    """A dataset that has only a digest."""

    def __init__(self) -> None:
        self.digest = "d"


class Notes(WorkFolder):
    """A folder whose commands note when they run."""

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        (out / "runs").mkdir(parents=True)

    def words(self, command: Command, *, shown: bool = False) -> list[str]:
        how = next((each for each in command.arguments if isinstance(each, str)), "runs")
        return [sys.executable, "-c", NOTES, str(self.run_of(command)), how]

    @property
    def noted(self) -> list[str]:
        path = self.out / "runs" / "notes"
        return path.read_text().splitlines() if path.exists() else []


def plan_of(**commands: tuple[Any, ...]) -> WorkPlan:
    """Return a plan of `linear` by name; a name among the arguments stands for that command's run."""
    plan, data = WorkPlan(), NamedDataset()
    for name, arguments in commands.items():
        plan.add(Command(name, "linear", (data, *(plan.commands.get(each, each) for each in arguments))))
    return plan


def test_two_at_once_and_none_before_those_it_needs(tmp_path: Path) -> None:
    work, plan = Notes(tmp_path), plan_of(first=(), reads=("first",), other=())
    assert run_plan(plan, work, 2, Console()) == {}
    assert set(work.noted[:2]) == {"begins first", "begins other"}
    assert work.noted.index("ends first") < work.noted.index("begins reads")
    assert [work.state(each) for each in plan.commands.values()] == ["done"] * 3
    before = work.noted
    assert run_plan(plan, work, 2, Console()) == {}
    assert work.noted == before


def test_a_failure_ends_only_what_needs_it(tmp_path: Path) -> None:
    work, plan = Notes(tmp_path), plan_of(bad=("fails",), reads=("bad",), other=())
    failed = run_plan(plan, work, 1, Console())
    assert list(failed) == ["bad", "reads"]
    assert "exit code 1" in failed["bad"]
    assert failed["reads"] == "needs bad"
    assert work.noted[-1] == "ends other"
    assert (tmp_path / "logs" / "bad.log").read_text() == "no such clip\n"


def test_a_signal_reaches_every_command_and_none_begins(tmp_path: Path) -> None:
    work, plan = Notes(tmp_path), plan_of(one=("long",), two=("long",), three=())

    def end() -> None:
        while len(work.noted) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    Timer(0, end).start()
    with pytest.raises(Ended), ending_on_signals():
        run_plan(plan, work, 2, Console())
    assert sorted(work.noted) == ["begins one", "begins two", "saved one", "saved two"]
