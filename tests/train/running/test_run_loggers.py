"""Loggers: what the real programs keep of a run, resumed ones too, and that none can end a training."""

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from skelpipe.errors import UsageError
from skelpipe.train.running import run_loggers
from skelpipe.train.running.run_loggers import Loggers, ask_for_loggers, open_loggers


def here(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed (extra dev)")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Ask for a logger within a command."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with click.Context(click.Command("train")):
        yield lambda name: ask_for_loggers([name])


def train(folder: Path, done: int, last: int) -> None:
    loggers = open_loggers(folder, done)
    loggers.params({"encoder.width": 16, "method": "aimclr"})
    for epoch in range(done + 1, last + 1):
        loggers.scalars(epoch, {"epoch": epoch, "loss": 1 / epoch, "knn@20": 50.0, "note": "x"}, "train")
    loggers.close()


@here("tensorboard")
def test_tensorboard_has_each_epoch_of_a_resumed_run_once(tmp_path: Path, asked: Callable[[str], None]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    asked("tensorboard")
    train(tmp_path, 0, 5)
    train(tmp_path, 3, 7)
    drawn = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in drawn.Scalars("train/loss")] == list(range(1, 8))
    assert [event.value for event in drawn.Scalars("train/knn_20")] == [50.0] * 7


@here("mlflow")
def test_mlflow_goes_on_with_the_same_run(tmp_path: Path, asked: Callable[[str], None]) -> None:
    from mlflow.tracking import MlflowClient

    asked("mlflow")
    folder = tmp_path / "run"
    folder.mkdir()
    train(folder, 0, 2)
    train(folder, 2, 4)
    client = MlflowClient((tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("skelpipe").experiment_id])
    assert json.loads((folder / "loggers.json").read_text()) == {"mlflow": run.info.run_id}
    assert run.data.params == {"encoder.width": "16", "method": "aimclr"}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((each.step, each.value) for each in history) == [(e, 1 / e) for e in (1, 2, 3, 4)]


@here("wandb")
def test_wandb_keeps_its_id(tmp_path: Path, asked: Callable[[str], None]) -> None:
    asked("wandb")
    train(tmp_path, 0, 1)
    identity = json.loads((tmp_path / "loggers.json").read_text())["wandb"]
    assert list((tmp_path / "wandb").glob(f"offline-run-*-{identity}"))
    train(tmp_path, 1, 2)
    assert json.loads((tmp_path / "loggers.json").read_text())["wandb"] == identity


def test_a_logger_that_fails_is_left_out_with_one_warning() -> None:
    said: list[str] = []
    kept: list[tuple[int, dict[str, float]]] = []

    class Broken:
        def params(self, values: object) -> None: ...
        def scalars(self, step: int, values: object) -> None:
            raise ConnectionError("the network\nis gone")

        def picture(self, name: str, png: bytes) -> None: ...
        def close(self) -> None: ...

    class Whole(Broken):
        def scalars(self, step: int, values: object) -> None:
            assert isinstance(values, dict)
            kept.append((step, values))

    loggers = Loggers({"broken": Broken, "whole": Whole}, said.append)
    for epoch in (1, 2):
        loggers.scalars(epoch, {"loss": float(epoch), "bad": float("nan")}, "train")
    loggers.close()
    assert kept == [(1, {"train/loss": 1.0}), (2, {"train/loss": 2.0})]
    assert said == ["Warning: logging to broken failed and is left out from here on: the network is gone"]


def test_a_missing_package_is_said_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_loggers, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"--log wandb needs the package wandb: pip install 'skelpipe\[wandb\]'"):
        ask_for_loggers(["wandb"])


def test_nothing_is_logged_unless_asked_for(tmp_path: Path) -> None:
    train(tmp_path, 0, 2)
    assert not list(tmp_path.iterdir())
