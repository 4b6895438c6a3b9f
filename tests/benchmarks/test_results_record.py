"""The record of results: what is known of a run on another machine, and what is left of a plan."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.dataset import Dataset
from skelpipe.train.reproduction.work_folder import WorkFolder
from skelpipe.train.reproduction.work_plan import FUSE, PRETRAIN, Command, WorkPlan

sys.path.append(str(Path(__file__).parent))  # as for the benchmarks run as scripts
from results_record import Record, Versions, identity


@pytest.fixture(scope="module")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return synthetic_clips(tmp_path_factory.mktemp("tiny"), 4, 3)


@pytest.fixture
def plan(tiny_dataset: Dataset) -> WorkPlan:
    """Two trainings, an evaluation of each, and what fuses these."""
    plan = WorkPlan()
    for view in ("joint", "bone"):
        trained = plan.add(Command(f"train-{view}", PRETRAIN, ("--shards", tiny_dataset, "--view", view)))
        plan.add(Command(f"knn-{view}", "knn", ("--shards", tiny_dataset, "--checkpoint", trained)))
    plan.add(Command("fused", FUSE, (plan.commands["knn-joint"], plan.commands["knn-bone"])))
    return plan


def finish(work: WorkFolder, command: Command, figures: dict[str, float]) -> None:
    """Leave what a finished command leaves."""
    run = work.run_of(command)
    run.mkdir(parents=True)
    (work.out / "parts").mkdir(exist_ok=True)
    if command.module == PRETRAIN:
        (run / "encoder.safetensors").write_bytes(b"")
        lines = [
            {"epoch": epoch, "loss": 1.0, **({"knn@20": 7.0 * epoch} if epoch % 2 else {})} for epoch in (1, 2, 3)
        ]
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        (run / "result.json").write_text(json.dumps({"digest": command.dataset.digest, "figures": figures}))
    part = {"key": command.key, "seconds": 3.5, "result": {}}
    (work.out / "parts" / f"{command.name}.json").write_text(json.dumps(part))


def test_what_is_done_is_known_elsewhere_and_what_others_need_is_left(plan, tmp_path) -> None:
    work = WorkFolder(tmp_path / "out")
    for name in ("train-joint", "knn-joint", "train-bone"):
        finish(work, plan.commands[name], {"knn@20": 81.23456})
    versions = Versions(work.out)
    versions.begin("abc1234")
    (work.out / "versions").write_text("0 abc1234\n4000000000 def5678\n")
    record = Record()
    record.collect(plan, work)
    record.write(tmp_path / "record.jsonl")
    there = Record.read(tmp_path / "record.jsonl")
    assert there == record
    assert there.of(plan.commands["knn-joint"]) == {
        "key": identity(plan.commands["knn-joint"]),
        "seconds": 3.5,
        "code": "abc1234",
        "figures": {"knn@20": 81.235},
    }
    trained = [plan.commands["train-joint"], plan.commands["train-bone"]]
    assert there.curve(trained) == [(1, 7.0), (3, 21.0), (4, 7.0), (6, 21.0)]  # two stages
    assert there.curve([trained[0], plan.commands["knn-bone"]]) == []
    assert list(there.left(plan).commands) == list(plan.commands)  # the fusion needs the scores of both

    del plan.commands["fused"]
    assert list(there.left(plan).commands) == ["train-bone", "knn-bone"]
    assert Record.read(tmp_path / "nothing.jsonl").left(plan).commands == plan.commands


def test_other_settings_or_clips_are_another_run(plan, tmp_path) -> None:
    work, command = WorkFolder(tmp_path / "out"), plan.commands["knn-joint"]
    finish(work, command, {"knn@20": 50.0})
    Versions(work.out).begin("abc1234")
    (work.out / "versions").write_text("0 abc1234\n")
    record = Record()
    record.collect(plan, work)
    assert record.of(command) is not None
    assert record.of(replace(command, arguments=(*command.arguments, "--k", "5"))) is None
    trained = replace(plan.commands["train-joint"], arguments=("--seed", "1"))
    assert record.of(replace(command, arguments=(*command.arguments[:-1], trained))) is None
    other = synthetic_clips(tmp_path / "other", 4, 2)
    assert record.of(replace(command, arguments=("--shards", other, *command.arguments[2:]))) is None


def test_a_file_may_lie_anywhere() -> None:
    one, other = (Command("knn", "knn", ("--checkpoint", path)) for path in ("/a/released.pt", "b/released.pt"))
    assert identity(one) != identity(other)
    assert identity(one, "/a/released.pt") == identity(other, "b/released.pt")
