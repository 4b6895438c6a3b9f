import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors import safe_open

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError
from skelpipe.train import runner
from skelpipe.train.checkpoint import read_checkpoint
from skelpipe.train.pretrain import fit_recipe, main
from skelpipe.train.recipe import load_recipe
from skelpipe.train.runlog import read_log

SCRIPT = Path(__file__).parents[2] / "train" / "pretrain.py"
SMALL = {
    "encoder.width": 2,
    "encoder.out_channels": 8,
    "head.hidden": 8,
    "head.dim": 8,
    "queue": 20,
    "optimiser.milestones": "[3]",
}
COMMON = ["--batch-size", "8", "--device", "cpu", "--set", "temperature=0.2"]
COMMON += [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


def run(dataset: Dataset, out: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["--shards", str(dataset.path), "--out", str(out), *COMMON, *options])


@pytest.fixture(scope="module")
def finished(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six epochs, a checkpoint every two."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = run(tiny_dataset, out, "--epochs", "6", "--save-every", "2", "--knn-every", "3")
    assert result.exit_code == 0, result.output
    return out


def same_run(a: Path, b: Path) -> None:
    for name in ("recipe.yaml", "log.jsonl"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert exported(a) == exported(b)
    states = [read_checkpoint(path / "checkpoints" / "epoch-0006.pt") for path in (a, b)]
    for field in vars(states[0]):
        assert bits(getattr(states[0], field)) == bits(getattr(states[1], field)), field


def bits(state: Any) -> Any:
    """Nested plain values with tensors as their bytes."""
    if isinstance(state, torch.Tensor):
        return state.dtype, state.shape, state.numpy().tobytes()
    if isinstance(state, dict):
        return {key: bits(value) for key, value in state.items()}
    return [bits(value) for value in state] if isinstance(state, list | tuple) else state


def exported(path: Path) -> dict[str, object]:
    """Tensors and metadata: a safetensors file orders the latter as it likes."""
    with safe_open(path / "encoder.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118
        return {**tensors, **file.metadata()}


def test_a_run_leaves_what_it_should(finished: Path, tiny_dataset: Dataset) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "checkpoints",
        "encoder.safetensors",
        "log.jsonl",
        "recipe.yaml",
        "speed.jsonl",
        "tensorboard",
    ]
    log = read_log(finished / "log.jsonl")
    assert [record["epoch"] for record in log] == [1, 2, 3, 4, 5, 6]
    assert [record["lr"] for record in log] == [0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    assert ["knn@20" in record for record in log] == [False, False, True, False, False, True]
    assert all(0 < record["std"] < 2 for record in log)
    assert len(read_log(finished / "speed.jsonl")) == 6

    recipe = load_recipe(str(finished / "recipe.yaml"))
    assert recipe["queue"] == 20
    assert recipe["frames"] == 8
    with safe_open(finished / "encoder.safetensors", framework="pt") as file:
        metadata = file.metadata()
        names = {name.split(".")[0] for name in file.keys()}  # noqa: SIM118 - not a dict
    assert names == {"encoder", "head"}
    for key, value in {
        "method": "skeletonclr",
        "view": "joint",
        "frames": "8",
        "persons": "1",
        "layout": "kinect-v2-25",
        "profile": "crosclr",
        "digest": tiny_dataset.digest,
        "dataset": "ntu60-xsub",
        "epoch": "6",
    }.items():
        assert metadata[key] == value
    assert json.loads(metadata["recipe"]) == yaml.safe_load((finished / "recipe.yaml").read_text())


def test_the_queue_is_part_of_a_checkpoint(finished: Path) -> None:
    saved = read_checkpoint(finished / "checkpoints" / "epoch-0006.pt")
    queues = [value for name, value in saved.model.items() if name.endswith("queue")]
    pointers = [value for name, value in saved.model.items() if name.endswith("pointer")]
    assert [tuple(queue.shape) for queue in queues] == [(20, 8)]
    assert [int(pointer) for pointer in pointers] == [6 * 24 % 20]  # every clip of every epoch, around the ring


def test_equal_runs_are_equal_files(finished: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    result = run(tiny_dataset, tmp_path / "again", "--epochs", "6", "--save-every", "2", "--knn-every", "3")
    assert result.exit_code == 0, result.output
    same_run(finished, tmp_path / "again")
    other = run(tiny_dataset, tmp_path / "other", "--epochs", "1", "--seed", "1")
    assert other.exit_code == 0
    assert read_log(tmp_path / "other" / "log.jsonl")[0]["loss"] != read_log(finished / "log.jsonl")[0]["loss"]


def test_killed_and_resumed_equals_uninterrupted(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path, single: dict[str, str]
) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, str(SCRIPT), "--shards", str(tiny_dataset.path), "--out", str(out), *COMMON]
    options = ["--epochs", "6", "--save-every", "2", "--knn-every", "3"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path, env=single
    )
    try:
        deadline = time.monotonic() + 100
        while len(read_log(out / "log.jsonl")) < 3 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "encoder.safetensors").exists()
    assert not (out / "checkpoints" / "epoch-0006.pt").exists()

    result = run(tiny_dataset, out, *options, "--resume")
    assert result.exit_code == 0, result.output
    assert "resuming from" in result.stderr
    same_run(finished, out)


def test_resume_from_each_checkpoint(finished: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    options = ["--epochs", "6", "--save-every", "2", "--knn-every", "3"]
    for removed in (["epoch-0006.pt"], ["epoch-0006.pt", "epoch-0004.pt"]):
        out = tmp_path / str(len(removed))
        (out / "checkpoints").mkdir(parents=True)
        for name in ("recipe.yaml", "log.jsonl", "speed.jsonl"):
            (out / name).write_bytes((finished / name).read_bytes())
        for path in (finished / "checkpoints").iterdir():
            if path.name not in removed:
                (out / "checkpoints" / path.name).write_bytes(path.read_bytes())
        assert run(tiny_dataset, out, *options, "--resume").exit_code == 0
        same_run(finished, out)


def test_a_finished_run_goes_on_when_asked_for_more_epochs(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    options = ["--save-every", "2", "--knn-every", "3"]
    assert run(tiny_dataset, tmp_path / "more", "--epochs", "3", *options).exit_code == 0
    assert run(tiny_dataset, tmp_path / "more", "--epochs", "6", *options, "--resume").exit_code == 0
    same_run(finished, tmp_path / "more")


def test_adam_resumes_too(tiny_dataset: Dataset, tmp_path: Path) -> None:
    adam = ["--set", "optimiser.name=adam", "--lr", "0.003", "--set", "init=default", "--knn-every", "0"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = [*adam, "--epochs", "6", "--save-every", "4"]
    assert run(tiny_dataset, whole, *options).exit_code == 0
    assert run(tiny_dataset, broken, *options).exit_code == 0
    (broken / "checkpoints" / "epoch-0006.pt").unlink()
    result = run(tiny_dataset, broken, *options, "--resume")
    assert "4 epochs are done" in result.stderr
    same_run(whole, broken)


def test_a_finished_run_has_nothing_to_resume(finished: Path, tiny_dataset: Dataset) -> None:
    before = (finished / "log.jsonl").read_bytes()
    result = run(tiny_dataset, finished, "--epochs", "6", "--save-every", "2", "--resume")
    assert result.exit_code == 0
    assert (finished / "log.jsonl").read_bytes() == before


def test_a_run_is_not_overwritten_unasked(finished: Path, tiny_dataset: Dataset) -> None:
    result = run(tiny_dataset, finished)
    assert result.exit_code == 2
    assert "already holds a run" in result.stderr
    assert run(tiny_dataset, finished, "--resume", "--overwrite").exit_code == 2


def test_resume_refuses_another_run(
    finished: Path,
    tiny_dataset: Dataset,
    make_dataset: Callable[..., Dataset],
    ntu_names: Callable[..., list[str]],
) -> None:
    before = (finished / "recipe.yaml").read_bytes()
    result = run(tiny_dataset, finished, "--epochs", "5", "--set", "temperature=0.5", "--view", "bone", "--resume")
    assert result.exit_code == 2
    for text in ("view: joint, now bone", "epochs: 6, now 5", "temperature: 0.2, now 0.5"):
        assert text in result.stderr
    other = make_dataset(ntu_names(actions=3, subjects=(1, 3)))
    result = run(other, finished, "--epochs", "6", "--resume")
    assert result.exit_code == 2
    assert f"digest: {tiny_dataset.digest}, now {other.digest}" in result.stderr
    assert (finished / "recipe.yaml").read_bytes() == before


def test_a_damaged_newest_checkpoint_costs_only_its_epochs(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "damaged"
    (out / "checkpoints").mkdir(parents=True)
    for name in ("recipe.yaml", "log.jsonl", "speed.jsonl", "checkpoints/epoch-0004.pt"):
        (out / name).write_bytes((finished / name).read_bytes())
    whole = (finished / "checkpoints" / "epoch-0006.pt").read_bytes()
    (out / "checkpoints" / "epoch-0006.pt").write_bytes(whole[:-1000])
    result = run(tiny_dataset, out, "--epochs", "6", "--save-every", "2", "--knn-every", "3", "--resume")
    assert result.exit_code == 0
    assert "passing over" in result.stderr
    same_run(finished, out)


def test_resume_without_a_run_starts_one(tiny_dataset: Dataset, tmp_path: Path) -> None:
    result = run(tiny_dataset, tmp_path / "new", "--epochs", "1", "--resume", "--json")
    assert result.exit_code == 0, result.output
    assert "starting with epoch 1" in result.stderr
    summary = json.loads(result.stdout)  # one object and nothing else
    assert summary["epochs"] == 1
    assert summary["weights"] == str(tmp_path / "new" / "encoder.safetensors")
    assert set(summary["figures"]) == {"knn@20"}


@pytest.mark.parametrize("view", ["bone", "motion"])
def test_other_views_and_amp(tiny_dataset: Dataset, tmp_path: Path, view: str) -> None:
    result = run(tiny_dataset, tmp_path / view, "--view", view, "--epochs", "1", "--amp")
    assert result.exit_code == 0, result.output
    with safe_open(tmp_path / view / "encoder.safetensors", framework="pt") as file:
        assert file.metadata()["view"] == view
        assert file.metadata()["amp"] == "True"
        assert all(file.get_tensor(name).dtype != torch.bfloat16 for name in file.keys())  # noqa: SIM118


def test_a_learning_rate_that_explodes_ends_the_run_clearly(tiny_dataset: Dataset, tmp_path: Path) -> None:
    result = run(tiny_dataset, tmp_path / "x", "--epochs", "30", "--lr", "1e30", "--knn-every", "0")
    assert result.exit_code == 1
    assert "finite" in result.stderr or "the loss is nan in epoch" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "x" / "encoder.safetensors").exists()


def test_a_collapse_is_said_once(tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "COLLAPSED", 10.0)
    result = run(tiny_dataset, tmp_path / "x", "--epochs", "3", "--knn-every", "0")
    assert result.stderr.count("collapsed to one point") == 1


def test_the_recipe_gives_way_to_the_dataset(tiny_dataset: Dataset) -> None:
    said: list[str] = []
    fitted = fit_recipe(load_recipe("skeletonclr"), tiny_dataset, said.append)
    assert (fitted["frames"], fitted["batch_size"], fitted["queue"]) == (8, 24, 32768)
    assert len(said) == 3
    assert "50 frames" in said[0]
    assert "training on 8" in said[0]
    assert "lowered to 24" in said[1]
    assert "queue of 32768 is larger than the 24" in said[2]
    again: list[str] = []
    assert fit_recipe(fitted, tiny_dataset, again.append) == fitted
    assert len(again) == 1


def test_no_training_clips_is_an_error(
    make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]
) -> None:
    only_test = make_dataset(ntu_names(actions=1, subjects=(3,)))
    with pytest.raises(DatasetError, match="the training split is empty"):
        fit_recipe(load_recipe("demo"), only_test, print)


def test_no_test_clips_is_only_a_line(
    make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]], tmp_path: Path
) -> None:
    only_training = make_dataset(ntu_names(actions=3, subjects=(1,)))
    result = run(only_training, tmp_path / "run", "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert "no kNN monitor: the test split is empty" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "nonsense"], "there is no recipe 'nonsense'"),
        (["--method", "demo"], "there is no method 'demo'; known: skeletonclr"),
        (["--set", "width=2"], "unknown key 'width'"),
        (["--device", "tpu"], "there is no device 'tpu'"),
        (["--epochs", "0"], "epochs is 0"),
    ],
)
def test_wrong_usage(tiny_dataset: Dataset, tmp_path: Path, options: list[str], message: str) -> None:
    arguments = ["--shards", str(tiny_dataset.path), "--out", str(tmp_path / "run"), *options]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_the_default_recipe_and_folder(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    arguments = ["--shards", str(tiny_dataset.path), "--epochs", "1", *small]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    recipe = load_recipe("runs/skeletonclr-ntu60-xsub-joint/recipe.yaml")
    assert recipe["temperature"] == 0.07  # skeletonclr's, not the demo's


def test_help_as_a_module(tmp_path: Path) -> None:
    # As a script it runs in the test of the kill.
    command = [sys.executable, "-m", "skelpipe.train.pretrain", "-h"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.rstrip().endswith("Example: python train/pretrain.py --shards data/ntu120-xset")
    assert "--resume" in done.stdout
