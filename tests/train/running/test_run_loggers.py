"""Loggers: what the real programs keep of a run, resumed ones too, and that none can end a training."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
from forked import Starter

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.train.running import run_loggers
from skelpipe.train.running.run_loggers import Loggers, ask_for_loggers, open_loggers

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "AWS_SECRET_ACCESS_KEY": "aws-secret-of-the-test",
    "MLFLOW_TRACKING_PASSWORD": "mlflow-secret-of-the-test",
}


def here(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed (extra dev)")


@pytest.fixture
def asked() -> Iterator[Callable[[str], None]]:
    """Ask for a logger within a command."""
    with click.Context(click.Command("train")):
        yield lambda name: ask_for_loggers([name])


def train(folder: Path, done: int, last: int) -> None:
    loggers = open_loggers(folder, done)
    loggers.params({"encoder.width": 16, "method": "aimclr"})
    for epoch in range(done + 1, last + 1):
        loggers.scalars(epoch, {"train": {"epoch": epoch, "loss": 1 / epoch, "knn@20": 50.0, "note": "x"}})
    loggers.close()


@here("tensorboard")
def test_tensorboard_has_each_epoch_of_a_resumed_run_once(tmp_path: Path, asked: Callable[[str], None]) -> None:
    asked("tensorboard")
    train(tmp_path, 0, 5)
    train(tmp_path, 3, 7)
    drawn = tensorboard_points(tmp_path)
    assert [step for step, _ in drawn["train/loss"]] == list(range(1, 8))
    assert [value for _, value in drawn["train/knn_20"]] == [50.0] * 7


@here("mlflow")
def test_mlflow_goes_on_with_the_same_run(
    tmp_path: Path, asked: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epochs that were told and are trained again after a kill are there once."""
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    asked("mlflow")
    folder = tmp_path / "run"
    folder.mkdir()
    train(folder, 0, 3)
    train(folder, 2, 5)
    client = MlflowClient((tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("skelpipe").experiment_id])
    assert (ids(folder), run.info.status) == ({"mlflow": run.info.run_id}, "FINISHED")
    assert run.data.params == {"encoder.width": "16", "method": "aimclr"}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((each.step, each.value) for each in history) == [(e, 1 / e) for e in range(1, 6)]


@here("wandb")
def test_a_killed_run_goes_on(
    starter: Starter,
    tiny_dataset: Dataset,
    small_options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in its fourth epoch, one after the checkpoint, and resumed by two ranks: each epoch is told once."""
    for name, value in {**SECRETS, "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "run"
    arguments = ["--shards", str(tiny_dataset.path), "--out", str(out), *small_options, "--epochs", "4"]
    arguments += ["--save-every", "2", "--knn-every", "4", "--log", "wandb"]
    first = starter.start("pretrain", 1, arguments, hold={0: "3 1"})
    first.wait_until_held(0)
    os.kill(first.pids[0], signal.SIGKILL)
    assert first.codes() == [-signal.SIGKILL]
    told = ids(out)
    assert list(told) == ["wandb"]
    second = starter.start("pretrain", 2, [*arguments, "--resume"])
    assert second.codes() == [0, 0], second.text(0)
    assert "Warning" not in first.text(0) + second.text(0) + second.text(1)
    assert ids(out) == told

    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    points = wandb_points(out)
    assert points["train/loss"] == [(each["epoch"], pytest.approx(each["loss"], rel=1e-6)) for each in log]
    assert [step for step, _ in points["speed/samples_per_s"]] == [1, 2, 3, 4]
    assert [step for step, _ in points["train/knn@20"]] == [4]
    for path in out.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [name for name, secret in SECRETS.items() if secret.encode() in content], path


def ids(out: Path) -> dict[str, str]:
    return dict(json.loads((out / "loggers.json").read_text()))


Points = dict[str, list[tuple[int, float]]]


def tensorboard_points(out: Path) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drawn = EventAccumulator(str(out / "tensorboard")).Reload()
    return {name: [(event.step, event.value) for event in drawn.Scalars(name)] for name in drawn.Tags()["scalars"]}


def wandb_points(out: Path) -> Points:
    """Read W&B's offline files: records of protobuf in the framing of LevelDB's log, in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    points: Points = {}
    for path in sorted((out / "wandb").glob(f"offline-run-*-{ids(out)['wandb']}/*.wandb")):
        content, at, record = path.read_bytes(), 7, b""
        while at + 7 <= len(content):
            if 0x8000 - at % 0x8000 < 7:  # no header fits: zeros to the end of the block
                at += 0x8000 - at % 0x8000
                continue
            size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
            record += content[at + 7 : at + 7 + size]
            at += 7 + size
            if kind in (1, 4):  # whole, or the last part
                history = wandb_internal_pb2.Record.FromString(record).history
                record = b""
                values: dict[str, Any] = {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in history.item
                }
                for name in set(values) - {"epoch"} if "epoch" in values else ():
                    points.setdefault(name, []).append((int(values["epoch"]), values[name]))
    return points


def test_a_logger_that_fails_is_left_out_with_one_warning() -> None:
    said: list[str] = []
    kept: list[tuple[int, dict[str, float]]] = []

    class Broken:
        last = 0

        def params(self, values: object) -> None: ...
        def scalars(self, step: int, values: object) -> None:
            raise ConnectionError("the network\nis gone")

        def figures(self, step: int, values: object) -> None: ...
        def picture(self, name: str, png: bytes) -> None: ...
        def close(self, *, failed: bool) -> None: ...

    class Whole(Broken):
        def scalars(self, step: int, values: object) -> None:
            assert isinstance(values, dict)
            kept.append((step, values))

    loggers = Loggers({"broken": Broken, "whole": Whole}, said.append)
    for epoch in (1, 2):
        loggers.scalars(epoch, {"train": {"loss": float(epoch), "bad": float("nan")}})
    loggers.close()
    assert kept == [(1, {"train/loss": 1.0}), (2, {"train/loss": 2.0})]
    assert said == ["Warning: logging to broken failed and is left out from here on: the network is gone"]


def test_no_secret_reaches_a_logger_or_its_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRETS["WANDB_API_KEY"])
    said: list[str] = []

    class Strict:
        last = 0

        def params(self, values: dict[str, Any]) -> None:
            assert values == {"begun_from": "s3://bucket/run/encoder.safetensors", "lr": 0.1}
            raise ConnectionError(f"https://me:pw@host/api?key=abc refused {SECRETS['WANDB_API_KEY']}")

    loggers = Loggers({"strict": Strict}, said.append)  # type: ignore[dict-item]
    loggers.params({"begun_from": "s3://key:secret@bucket/run/encoder.safetensors?sig=1", "lr": 0.1})
    (line,) = said
    assert line.endswith("from here on: https://host/api refused ***")


def test_a_missing_package_is_said_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_loggers, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"--log wandb needs the package wandb: pip install 'skelpipe\[wandb\]'"):
        ask_for_loggers(["wandb"])


def test_nothing_is_logged_unless_asked_for(tmp_path: Path) -> None:
    train(tmp_path, 0, 2)
    assert not list(tmp_path.iterdir())
