"""Killed, cut off, damaged or lengthened: a run that goes on equals one that was never stopped, bit for bit."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from forked import Starter

from skelpipe.dataset import Dataset
from skelpipe.train.running import loop
from skelpipe.train.running import run as running
from skelpipe.train.running.checkpoint import read_checkpoint
from skelpipe.train.running.run_log import read_log
from skelpipe.train.training import knn_monitor, pretraining

Pretrain = Callable[..., Result]
SameRun = Callable[..., None]


def test_the_queue_is_part_of_a_checkpoint(finished: Path) -> None:
    saved = read_checkpoint(finished / "checkpoints" / "epoch-0006.pt")
    queues = [value for name, value in saved.model.items() if name.endswith("queue")]
    pointers = [value for name, value in saved.model.items() if name.endswith("pointer")]
    assert [tuple(queue.shape) for queue in queues] == [(20, 8)]
    assert [int(pointer) for pointer in pointers] == [6 * 24 % 20]  # every clip of every epoch, around the ring


def test_equal_runs_are_equal_files(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Pretrain, same_run: SameRun
) -> None:
    result = pretrain_small(
        tiny_dataset, tmp_path / "again", "--epochs", "6", "--save-every", "2", "--knn-every", "3"
    )
    assert result.exit_code == 0, result.output
    same_run(finished, tmp_path / "again")
    other = pretrain_small(tiny_dataset, tmp_path / "other", "--epochs", "1", "--seed", "1")
    assert other.exit_code == 0
    assert read_log(tmp_path / "other" / "log.jsonl")[0]["loss"] != read_log(finished / "log.jsonl")[0]["loss"]


def test_killed_and_resumed_equals_uninterrupted(
    finished: Path,
    tiny_dataset: Dataset,
    tmp_path: Path,
    starter: Starter,
    pretrain_small: Pretrain,
    same_run: SameRun,
    small_options: list[str],
) -> None:
    out = tmp_path / "killed"
    command = ["--shards", str(tiny_dataset.path), "--out", str(out), *small_options]
    options = ["--epochs", "6", "--save-every", "2", "--knn-every", "3"]
    killed = starter.start("pretrain", 1, [*command, *options])
    try:
        deadline = time.monotonic() + 100
        while len(read_log(out / "log.jsonl")) < 3:
            assert time.monotonic() < deadline, killed.text(0)
            time.sleep(0.001)
    finally:
        os.kill(killed.pids[0], signal.SIGKILL)
    assert killed.codes() == [-signal.SIGKILL]
    assert not (out / "encoder.safetensors").exists()
    assert not (out / "checkpoints" / "epoch-0006.pt").exists()

    result = pretrain_small(tiny_dataset, out, *options, "--resume")
    assert result.exit_code == 0, result.output
    assert "resuming from" in result.stderr
    same_run(finished, out)


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 7), (signal.SIGUSR1, 8), (signal.SIGTERM, 9)])
def test_told_to_stop_and_resumed_equals_uninterrupted(
    finished: Path,
    tiny_dataset: Dataset,
    tmp_path: Path,
    pretrain_small: Pretrain,
    same_run: SameRun,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    step: int,
) -> None:
    """Three steps are an epoch: 7 and 8 are within the third, 9 is its last, before its kNN figure."""
    options, out = ["--epochs", "6", "--save-every", "2", "--knn-every", "3"], tmp_path / "stopped"
    with monkeypatch.context() as patched:
        signal_at_step(patched, step, number)
        result = pretrain_small(tiny_dataset, out, *options)
    assert result.exit_code == 143, result.output
    (line,) = [line for line in result.stderr.splitlines() if number.name in line]
    name = f"epoch-0002-step-{step - 6:06}.pt"
    at = f"epoch 3, step {step - 6} of 3"
    assert line.endswith(f"stopped after {at}; {out}/checkpoints/{name} is written, --resume goes on from there")
    assert not (out / "encoder.safetensors").exists()

    result = pretrain_small(tiny_dataset, out, *options, "--resume")
    assert result.exit_code == 0, result.output
    same_run(finished, out)
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept == ["epoch-0002.pt", "epoch-0004.pt", "epoch-0006.pt"]


def signal_at_step(patched: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    """Let this process get a signal in the middle of a step, counted from 1."""
    plain, seen = loop.Stepper.learn, []

    def learn(self: loop.Stepper, batch: int, loss: torch.Tensor) -> None:
        seen.append(batch)
        if len(seen) == step:
            signal.raise_signal(number)
        plain(self, batch, loss)

    patched.setattr(loop.Stepper, "learn", learn)


def test_told_to_stop_twice_within_one_step_of_several_batches(
    tiny_dataset: Dataset,
    tmp_path: Path,
    pretrain_small: Pretrain,
    same_run: SameRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gradients of two batches are one step: the signal in the first batch waits for the second."""
    options = ["--epochs", "2", "--batch-size", "6", "--set", "optimiser.accumulate=2", "--save-every", "2"]
    assert pretrain_small(tiny_dataset, tmp_path / "whole", *options).exit_code == 0
    for attempt in ([], ["--resume"]):
        with monkeypatch.context() as patched:
            signal_at_step(patched, 1, signal.SIGTERM)
            result = pretrain_small(tiny_dataset, tmp_path / "stopped", *options, *attempt)
        assert result.exit_code == 143
        steps = "epoch 1, step 2 of 4" if not attempt else "1 epochs"
        assert f"SIGTERM: stopped after {steps}; " in result.stderr
    assert pretrain_small(tiny_dataset, tmp_path / "stopped", *options, "--resume").exit_code == 0
    same_run(tmp_path / "whole", tmp_path / "stopped", 2)


@pytest.mark.parametrize("moment", ["saving", "measuring", "starting"])
def test_told_to_stop_twice_outside_of_a_step(
    finished: Path,
    tiny_dataset: Dataset,
    tmp_path: Path,
    pretrain_small: Pretrain,
    same_run: SameRun,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """While a checkpoint is written, in the middle of a kNN figure, before the first step."""
    options, out = ["--epochs", "6", "--save-every", "2", "--knn-every", "3"], tmp_path / "stopped"
    place, name = {
        "saving": (running, "save_checkpoint"),
        "measuring": (knn_monitor, "knn_figures"),
        "starting": (running.RunLog, "__enter__"),
    }[moment]
    plain = getattr(place, name)

    def signalled(*given: object, **named: object) -> object:
        done = plain(*given, **named) if moment != "measuring" else None
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        return done

    with monkeypatch.context() as patched:
        patched.setattr(place, name, signalled)
        result = pretrain_small(tiny_dataset, out, *options)
    assert result.exit_code == 143, result.output
    (line,) = [line for line in result.stderr.splitlines() if "SIGTERM" in line]
    assert {"saving": "after 2 epochs", "measuring": "epoch 3, step 3 of 3", "starting": "after 0 epochs"}[
        moment
    ] in line
    assert "Traceback" not in result.stderr
    assert len(read_log(out / "log.jsonl")) == {"saving": 2, "measuring": 2, "starting": 0}[moment]
    assert pretrain_small(tiny_dataset, out, *options, "--resume").exit_code == 0
    same_run(finished, out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_told_to_stop_before_and_after_training(
    finished: Path,
    tiny_dataset: Dataset,
    tmp_path: Path,
    pretrain_small: Pretrain,
    same_run: SameRun,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    """While the networks are made, and while the report is written: there is nothing to save."""
    options, out = ["--epochs", "6", "--save-every", "2", "--knn-every", "3", "--resume"], tmp_path / "ended"
    for name in ("initialised", "write_report"):
        with monkeypatch.context() as patched:
            patched.setattr(pretraining, name, lambda *_: signal.raise_signal(number))
            result = pretrain_small(tiny_dataset, out, *options)
        assert result.exit_code == 143, result.output
        assert f"{number.name}: ended; --resume continues from the newest checkpoint" in result.stderr
    assert "6 epochs are done" in pretrain_small(tiny_dataset, out, *options).stderr
    same_run(finished, out)


def test_saved_by_the_clock_within_epochs_and_killed(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Pretrain, same_run: SameRun
) -> None:
    """A checkpoint after every step changes nothing, and a run goes on from each."""
    options = ["--epochs", "6", "--save-every", "0.0001s", "--knn-every", "3"]
    folders: list[Path] = []
    plain = running.save_checkpoint

    def copying(folder: Path, *given: Any) -> Path:
        path = plain(folder, *given)
        if path.name in ("epoch-0001-step-000002.pt", "epoch-0003-step-000001.pt", "epoch-0004.pt"):
            shutil.copytree(folder.parent, folders_at / path.stem)
            folders.append(folders_at / path.stem)
        return path

    folders_at = tmp_path / "killed"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(running, "save_checkpoint", copying)
        assert pretrain_small(tiny_dataset, tmp_path / "often", *options).exit_code == 0
    same_run(finished, tmp_path / "often")
    assert len(folders) == 3
    for folder in folders:
        result = pretrain_small(tiny_dataset, folder, *options, "--resume")
        assert f"{folder.name}.pt: " in result.stderr
        same_run(finished, folder)


def test_resume_from_each_checkpoint(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Pretrain, same_run: SameRun
) -> None:
    options = ["--epochs", "6", "--save-every", "2", "--knn-every", "3"]
    for removed in (["epoch-0006.pt"], ["epoch-0006.pt", "epoch-0004.pt"]):
        out = tmp_path / str(len(removed))
        (out / "checkpoints").mkdir(parents=True)
        for name in ("recipe.yaml", "log.jsonl", "speed.jsonl"):
            (out / name).write_bytes((finished / name).read_bytes())
        for path in (finished / "checkpoints").iterdir():
            if path.name not in removed:
                (out / "checkpoints" / path.name).write_bytes(path.read_bytes())
        assert pretrain_small(tiny_dataset, out, *options, "--resume").exit_code == 0
        same_run(finished, out)


def test_a_finished_run_goes_on_when_asked_for_more_epochs(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Pretrain, same_run: SameRun
) -> None:
    options = ["--save-every", "2", "--knn-every", "3"]
    assert pretrain_small(tiny_dataset, tmp_path / "more", "--epochs", "3", *options).exit_code == 0
    assert pretrain_small(tiny_dataset, tmp_path / "more", "--epochs", "6", *options, "--resume").exit_code == 0
    same_run(finished, tmp_path / "more")


def test_adam_resumes_too(
    tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Pretrain, same_run: SameRun
) -> None:
    adam = ["--set", "optimiser.name=adam", "--lr", "0.003", "--set", "init=default", "--knn-every", "0"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = [*adam, "--epochs", "6", "--save-every", "4"]
    assert pretrain_small(tiny_dataset, whole, *options).exit_code == 0
    assert pretrain_small(tiny_dataset, broken, *options).exit_code == 0
    (broken / "checkpoints" / "epoch-0006.pt").unlink()
    result = pretrain_small(tiny_dataset, broken, *options, "--resume")
    assert "4 epochs are done" in result.stderr
    same_run(whole, broken)


def test_rates_of_steps_go_on_within_an_epoch(
    tiny_dataset: Dataset,
    tmp_path: Path,
    pretrain_small: Pretrain,
    same_run: SameRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cosine = ["schedule=cosine", "per=step", "warmup=1", "min_lr=1e-5", "name=adamw", "milestones=[250]"]
    options = ["--epochs", "2", "--batch-size", "6", "--save-every", "2", "--knn-every", "0", "--lr", "0.003"]
    options += [text for each in cosine for text in ("--set", f"optimiser.{each}")]
    assert pretrain_small(tiny_dataset, tmp_path / "whole", *options).exit_code == 0
    for step, attempt in ((2, []), (4, ["--resume"])):  # in the rise, and on the cosine
        with monkeypatch.context() as patched:
            signal_at_step(patched, step, signal.SIGTERM)
            result = pretrain_small(tiny_dataset, tmp_path / "stopped", *options, *attempt)
        assert result.exit_code == 143
    assert pretrain_small(tiny_dataset, tmp_path / "stopped", *options, "--resume").exit_code == 0
    same_run(tmp_path / "whole", tmp_path / "stopped", 2)
    longer = pretrain_small(tiny_dataset, tmp_path / "whole", *options, "--epochs", "3", "--resume")
    assert longer.exit_code == 2
    assert "epochs: 2, now 3" in longer.stderr


def test_a_finished_run_has_nothing_to_resume(
    finished: Path, tiny_dataset: Dataset, pretrain_small: Pretrain
) -> None:
    before = (finished / "log.jsonl").read_bytes()
    result = pretrain_small(tiny_dataset, finished, "--epochs", "6", "--save-every", "2", "--resume")
    assert result.exit_code == 0
    assert (finished / "log.jsonl").read_bytes() == before


def test_resume_refuses_another_run(
    finished: Path,
    tiny_dataset: Dataset,
    make_dataset: Callable[..., Dataset],
    ntu_names: Callable[..., list[str]],
    pretrain_small: Pretrain,
) -> None:
    before = (finished / "recipe.yaml").read_bytes()
    result = pretrain_small(
        tiny_dataset, finished, "--epochs", "5", "--set", "temperature=0.5", "--view", "bone", "--resume"
    )
    assert result.exit_code == 2
    for text in ("view: joint, now bone", "epochs: 6, now 5", "temperature: 0.2, now 0.5"):
        assert text in result.stderr
    other = make_dataset(ntu_names(actions=3, subjects=(1, 3)))
    result = pretrain_small(other, finished, "--epochs", "6", "--resume")
    assert result.exit_code == 2
    assert f"digest: {tiny_dataset.digest}, now {other.digest}" in result.stderr
    assert (finished / "recipe.yaml").read_bytes() == before


def test_a_damaged_newest_checkpoint_costs_only_its_epochs(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Pretrain, same_run: SameRun
) -> None:
    out = tmp_path / "damaged"
    (out / "checkpoints").mkdir(parents=True)
    for name in ("recipe.yaml", "log.jsonl", "speed.jsonl", "checkpoints/epoch-0004.pt"):
        (out / name).write_bytes((finished / name).read_bytes())
    whole = (finished / "checkpoints" / "epoch-0006.pt").read_bytes()
    (out / "checkpoints" / "epoch-0006.pt").write_bytes(whole[:-1000])
    result = pretrain_small(
        tiny_dataset, out, "--epochs", "6", "--save-every", "2", "--knn-every", "3", "--resume"
    )
    assert result.exit_code == 0
    assert "skipping" in result.stderr
    same_run(finished, out)
