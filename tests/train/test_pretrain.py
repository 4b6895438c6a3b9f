import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors import safe_open

from skelpipe.dataset import Dataset
from skelpipe.train.pretrain import main
from skelpipe.train.recipes.reader import load_recipe
from skelpipe.train.running import run
from skelpipe.train.running.run_log import read_log

Pretrain = Callable[..., Result]


def test_a_run_leaves_what_it_should(finished: Path, tiny_dataset: Dataset) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "best",
        "checkpoints",
        "encoder.safetensors",
        "log.jsonl",
        "recipe.yaml",
        "report.html",
        "speed.jsonl",
    ]
    log = read_log(finished / "log.jsonl")
    assert [record["epoch"] for record in log] == [1, 2, 3, 4, 5, 6]
    assert [record["lr"] for record in log] == [0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    assert ["knn@20" in record for record in log] == [False, False, True, False, False, True]
    assert all(0 < record["std"] < 2 for record in log)
    assert len(read_log(finished / "speed.jsonl")) == 6

    recipe = load_recipe(str(finished / "recipe.yaml"))
    assert recipe.settings.queue == 20
    assert recipe.frames == 8
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


def test_a_run_is_not_overwritten_unasked(finished: Path, tiny_dataset: Dataset, pretrain_small: Pretrain) -> None:
    result = pretrain_small(tiny_dataset, finished)
    assert result.exit_code == 2
    assert "already holds a run" in result.stderr
    assert pretrain_small(tiny_dataset, finished, "--resume", "--overwrite").exit_code == 2


def test_resume_without_a_run_starts_one(tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Pretrain) -> None:
    result = pretrain_small(tiny_dataset, tmp_path / "new", "--epochs", "1", "--resume", "--json")
    assert result.exit_code == 0, result.output
    assert "starting with epoch 1" in result.stderr
    summary = json.loads(result.stdout)  # one object and nothing else
    assert summary["epochs"] == 1
    assert summary["weights"] == str(tmp_path / "new" / "encoder.safetensors")
    assert set(summary["figures"]) == {"knn@20"}


@pytest.mark.parametrize("view", ["bone", "motion"])
def test_other_views_and_amp(tiny_dataset: Dataset, tmp_path: Path, view: str, pretrain_small: Pretrain) -> None:
    result = pretrain_small(tiny_dataset, tmp_path / view, "--view", view, "--epochs", "1", "--amp")
    assert result.exit_code == 0, result.output
    with safe_open(tmp_path / view / "encoder.safetensors", framework="pt") as file:
        assert file.metadata()["view"] == view
        assert file.metadata()["amp"] == "True"
        assert all(file.get_tensor(name).dtype != torch.bfloat16 for name in file.keys())  # noqa: SIM118


def test_a_learning_rate_that_explodes_ends_the_run_clearly(
    tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Pretrain
) -> None:
    result = pretrain_small(tiny_dataset, tmp_path / "x", "--epochs", "30", "--lr", "1e30", "--knn-every", "0")
    assert result.exit_code == 1
    assert "finite" in result.stderr or "the loss is nan in epoch" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "x" / "encoder.safetensors").exists()


def test_a_collapse_is_said_once(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretrain_small: Pretrain
) -> None:
    monkeypatch.setattr(run, "COLLAPSED", 10.0)
    result = pretrain_small(tiny_dataset, tmp_path / "x", "--epochs", "3", "--knn-every", "0")
    assert result.stderr.count("collapsed to one point") == 1


def test_no_test_clips_is_only_a_line(
    make_dataset: Callable[..., Dataset],
    ntu_names: Callable[..., list[str]],
    tmp_path: Path,
    pretrain_small: Pretrain,
) -> None:
    only_training = make_dataset(ntu_names(actions=3, subjects=(1,)))
    result = pretrain_small(only_training, tmp_path / "run", "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert "no kNN monitor: the test subset is empty" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "nonsense"], "there is no recipe 'nonsense'"),
        (["--method", "demo"], "there is no method 'demo'; known: actclr"),
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
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_settings: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--shards", str(tiny_dataset.path), "--epochs", "1", *small_settings]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    recipe = load_recipe("runs/skeletonclr-ntu60-xsub-joint/recipe.yaml")
    assert recipe.settings.temperature == 0.07  # skeletonclr's, not the demo's


def test_help_as_a_module(tmp_path: Path) -> None:
    # As a script it runs in the test of torchrun.
    command = [sys.executable, "-m", "skelpipe.train.pretrain", "-h"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.rstrip().endswith("Example: skelpipe pretrain --shards data/ntu120-xset")
    assert "--resume" in done.stdout


def test_either_reader_trains_the_same(
    pretrain_small: Pretrain, same_run: Callable[..., None], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """DALI's CPU backend beside the native reader, and native going on with what DALI began."""
    every = ["--save-every", "1", "--knn-every", "1"]
    pretrain_small(tiny_dataset, tmp_path / "native", "--epochs", "3", *every)
    for more in (["--epochs", "2", "--loader", "dali"], ["--epochs", "3", "--resume"]):
        result = pretrain_small(tiny_dataset, tmp_path / "dali", *more, *every)
        assert result.exit_code == 0, result.output
    same_run(tmp_path / "native", tmp_path / "dali", epoch=3)


@pytest.fixture(scope="module")
def of_ten_frames(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    return make_dataset(ntu_names(actions=2, subjects=(1, 3)), frames=10)


def attempt(dataset: Dataset, out: Path, *options: str) -> Result:
    return CliRunner().invoke(
        main, ["--shards", str(dataset.path), "--out", str(out), "--device", "cpu", *options]
    )


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("skelemixclr", [], "these clips have 10: prepare the dataset with 44 frames"),
        ("skeattnclr", [], "these clips have 10: prepare the dataset with 28 frames"),
        ("skelemixclr", ["--set", "skelemixclr.blocks=[1, 2]"], "prepare the dataset with 8 or 12 frames"),
    ],
)
def test_skelemix_needs_a_multiple_of_four_frames(
    of_ten_frames: Dataset, tmp_path: Path, method: str, options: list[str], message: str
) -> None:
    result = attempt(of_ten_frames, tmp_path / "run", "--method", method, *options)
    assert result.exit_code == 2
    assert "multiple of 4 frames" in result.stderr
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_skelemix_needs_frames_for_its_region(tiny_dataset: Dataset, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    result = attempt(tiny_dataset, finished, "--method", "skelemixclr", "--overwrite")
    assert result.exit_code == 2
    assert "prepare at least 44 frames, or ask for at most 2 blocks" in result.stderr
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before
