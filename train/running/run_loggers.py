"""Programs that a run is logged to besides its JSON lines: TensorBoard, W&B, MLflow. None of them by default.

Which ones, `--log` says; the command's context keeps it. Their packages are imported when a run is opened.
"""

import importlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import click

from skelpipe.errors import UsageError
from skelpipe.files import write_json
from skelpipe.train.running.ranks import ranks
from skelpipe.train.running.run_folder import LOGGER_IDS

__all__ = ["LOGGERS", "LOGGER_FOLDERS", "Loggers", "RunLogger", "ask_for_loggers", "loggers_asked", "open_loggers"]

KEY = "skelpipe.loggers"
LOGGER_FOLDERS = ("tensorboard", "wandb")  # that loggers make in the folder of a run
PROJECT = "skelpipe"
LONGEST = 500  # characters of a hyper-parameter's value
BATCH = 100  # parameters that MLflow takes at once


class RunLogger(Protocol):
    """Takes what a run tells. Values are plain numbers and texts; pictures are PNG files."""

    def params(self, values: Mapping[str, Any]) -> None: ...
    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...
    def picture(self, name: str, png: bytes) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Writes event files into `tensorboard/` of the run's folder. Steps after `done` count no more."""

    def __init__(self, folder: Path, done: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / "tensorboard"
        # TensorBoard reads event files in the order of their names, which begin with the second of opening.
        while any(path.glob(f"events.out.tfevents.{int(time.time())}.*")):
            time.sleep(0.05)
        self._writer = SummaryWriter(str(path), purge_step=None if done is None else done + 1)

    def params(self, values: Mapping[str, Any]) -> None:
        rows = "".join(f"\n| {name} | {value} |" for name, value in values.items())
        self._writer.add_text("recipe", f"| key | value |\n|---|---|{rows}")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name.replace("@", "_"), value, step)
        self._writer.flush()

    def picture(self, name: str, png: bytes) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """Logs to the project `$WANDB_PROJECT`, else `skelpipe`; offline, all stays in `wandb/` of the folder.

    Neither the command line nor code, console or environment are sent: they may hold keys.
    """

    def __init__(self, folder: Path, done: int | None) -> None:
        import wandb

        settings = wandb.Settings(
            console="off",
            disable_git=True,
            save_code=False,
            silent=True,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        known = _ids(folder).get("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(folder),
            name=folder.resolve().name,
            id=known,
            resume="allow",
            settings=settings,
        )
        self._image = wandb.Image
        _keep_id(folder, "wandb", self._run.id)
        # Not W&B's own steps, which never go back: the epochs after a checkpoint are trained again.
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")

    def params(self, values: Mapping[str, Any]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"epoch": step, **values})

    def picture(self, name: str, png: bytes) -> None:
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            self._run.log({name: self._image(image)})

    def close(self) -> None:
        self._run.finish()


class Mlflow:
    """Logs to the server or store `$MLFLOW_TRACKING_URI`, else to the folder `mlruns` beside the run's folder."""

    def __init__(self, folder: Path, done: int | None) -> None:
        client = importlib.import_module("mlflow.tracking").MlflowClient
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder needs no database
            uri = (folder.resolve().parent / "mlruns").as_uri()
        self._client = client(tracking_uri=uri)
        self._entities = importlib.import_module("mlflow.entities")
        self._id = _ids(folder).get("mlflow") or self._create(folder)
        self._client.update_run(self._id, status="RUNNING")
        _keep_id(folder, "mlflow", self._id)

    def _create(self, folder: Path) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        return str(self._client.create_run(experiment, run_name=folder.resolve().name).info.run_id)

    def params(self, values: Mapping[str, Any]) -> None:
        known = self._client.get_run(self._id).data.params
        new = [
            self._entities.Param(_mlflow_name(name), str(value))
            for name, value in values.items()
            if _mlflow_name(name) not in known  # MLflow refuses to change a parameter, such as more epochs
        ]
        for start in range(0, len(new), BATCH):
            self._client.log_batch(self._id, params=new[start : start + BATCH])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(_mlflow_name(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def picture(self, name: str, png: bytes) -> None:
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            self._client.log_image(self._id, image, f"{name}.png")

    def close(self) -> None:
        self._client.set_terminated(self._id)


Opener = Callable[[Path, int | None], RunLogger]
LOGGERS: Mapping[str, tuple[str, Opener]] = {  # by name: the package, and what opens a run
    "tensorboard": ("tensorboard", TensorBoard),
    "wandb": ("wandb", Wandb),
    "mlflow": ("mlflow", Mlflow),
}


class Loggers:
    """Several loggers as one. One that fails is left out from then on, with one warning: training goes on."""

    def __init__(self, loggers: Mapping[str, Callable[[], RunLogger]], warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._open: dict[str, RunLogger] = {}
        for name, opener in loggers.items():
            self._try(name, lambda opener=opener, name=name: self._open.update({name: opener()}))  # type: ignore[misc]

    def params(self, values: Mapping[str, Any]) -> None:
        """Tell the hyper-parameters, by dotted name; values that are no numbers become texts."""
        plain = {name: _plain(value) for name, value in values.items()}
        self._each(lambda logger: logger.params(plain))

    def scalars(self, step: int, values: Mapping[str, Any], section: str) -> None:
        """Tell the finite numbers among the values as `section/name` of this step."""
        told = {name: value for name, value in values.items() if _is_number(value) and name != "epoch"}
        numbers = {f"{section}/{name}": float(value) for name, value in told.items()}
        if numbers:
            self._each(lambda logger: logger.scalars(step, numbers))

    def picture(self, name: str, png: bytes) -> None:
        self._each(lambda logger: logger.picture(name, png))

    def close(self) -> None:
        self._each(lambda logger: logger.close())
        self._open = {}

    def _each(self, tell: Callable[[RunLogger], None]) -> None:
        for name, logger in list(self._open.items()):
            self._try(name, lambda logger=logger: tell(logger))  # type: ignore[misc]

    def _try(self, name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # whatever a network or a program of others may raise
            self._open.pop(name, None)
            line = " ".join(str(error).split())[:200] or type(error).__name__
            self._warn(f"Warning: logging to {name} failed and is left out from here on: {line}")


def ask_for_loggers(names: Sequence[str]) -> None:
    """Have this command log to these programs; UsageError that names the extra where a package is missing."""
    for name in names:
        package, _ = LOGGERS[name]
        if find_spec(package) is None:
            raise UsageError(f"--log {name} needs the package {package}: pip install 'skelpipe[{name}]'")
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[KEY] = tuple(dict.fromkeys(names))


def loggers_asked() -> Sequence[str]:
    """Return the names of the programs that this command logs to."""
    context = click.get_current_context(silent=True)
    found: Sequence[str] = context.meta.get(KEY, ()) if context is not None else ()
    return found


def open_loggers(folder: Path, done: int | None = None) -> Loggers:
    """Open the run of a folder at the programs that the command asked for; on rank 0 only, elsewhere at none.

    `done` are the epochs that count of a run that goes on; None adds to a run that is finished.
    """
    names = loggers_asked() if ranks().is_main else ()
    openers = {name: (lambda opener=LOGGERS[name][1]: opener(folder, done)) for name in names}
    return Loggers(openers, lambda line: click.echo(line, err=True))


def _ids(folder: Path) -> dict[str, str]:
    try:
        content = json.loads((folder / LOGGER_IDS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _keep_id(folder: Path, name: str, identity: str) -> None:
    write_json(folder / LOGGER_IDS, {**_ids(folder), name: identity})


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else str(value)[:LONGEST]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mlflow_name(name: str) -> str:
    return name.replace("@", "_")
