"""Programs that a run is logged to besides its JSON lines: TensorBoard, W&B, MLflow. None of them by default.

Which ones, `--log` says; the command's context keeps it. Their packages are imported when a run is opened.

`loggers.json` in the run's folder has its ids at W&B and MLflow, by which a resumed run goes on. Neither
forgets what it was told, and a kill may lose what W&B was told last: each is therefore asked for the last epoch
that it has, and told those that it lacks.
"""

import importlib
import io
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import click

from skelpipe.errors import UsageError
from skelpipe.files import write_json
from skelpipe.storage.filesystem import one_line
from skelpipe.storage.urls import SECRET_VARIABLES
from skelpipe.train.running.run_folder import LOGGER_IDS

__all__ = ["LOGGERS", "LOGGER_FOLDERS", "Loggers", "RunLogger", "ask_for_loggers", "loggers_asked", "open_loggers"]

KEY, OPENED = "skelpipe.loggers", "skelpipe.loggers.opened"  # in the command's context
LOGGER_FOLDERS = ("tensorboard", "wandb")  # that loggers make in the folder of a run
PROJECT = "skelpipe"
FIGURES = "figures/"
LONGEST = 500  # characters of a hyper-parameter's value
BATCH = 100  # parameters that MLflow takes at once
SECRETS = (*SECRET_VARIABLES, "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
SHORTENED = 200  # characters of an error


class RunLogger(Protocol):
    """Takes what a run tells. Values are plain numbers and texts; pictures are PNG files.

    `last` is the last step (epoch) that the program had when the run was opened, 0 for none. Scalars are curves,
    told once per step; figures are the outcome, and may be told again. `failed`: the run stopped before its end.
    """

    @property
    def last(self) -> int: ...
    def params(self, values: Mapping[str, Any]) -> None: ...
    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...
    def figures(self, step: int, values: Mapping[str, float]) -> None: ...
    def picture(self, name: str, png: bytes) -> None: ...
    def close(self, *, failed: bool) -> None: ...


class TensorBoard:
    """Writes event files into `tensorboard/` of the run's folder. Steps after `done` count no more."""

    def __init__(self, folder: Path, done: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / "tensorboard"
        self.last = done or 0 if any(path.glob("events.out.tfevents.*")) else 0
        # TensorBoard reads event files in the order of their names, which begin with the second of opening.
        while any(path.glob(f"events.out.tfevents.{int(time.time())}.*")):
            time.sleep(0.05)
        self._writer = SummaryWriter(str(path), purge_step=None if done is None else done + 1)

    def params(self, values: Mapping[str, Any]) -> None:
        rows = "".join(f"\n| {name} | {value} |" for name, value in values.items())
        self._writer.add_text("recipe", f"| key | value |\n|---|---|{rows}")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(_plain_name(name), value, step)
        self._writer.flush()

    figures = scalars

    def picture(self, name: str, png: bytes) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), dataformats="HWC")

    def close(self, *, failed: bool) -> None:
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
        if self._run.offline and known and done is not None:
            self._forget_earlier(folder)
        self.last = int(self._run.summary.get("epoch") or 0) if self._run.resumed else 0
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")

    def _forget_earlier(self, folder: Path) -> None:
        """Remove what earlier processes wrote of this run: a kill leaves it incomplete, and all is told again."""
        now = Path(self._run.sync_dir).resolve()
        for earlier in (folder / "wandb").glob(f"offline-run-*-{self._run.id}"):
            if earlier.resolve() != now:
                shutil.rmtree(earlier, ignore_errors=True)

    def params(self, values: Mapping[str, Any]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"epoch": step, **values})

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        self._run.summary.update(dict(values))

    def picture(self, name: str, png: bytes) -> None:
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            self._run.log({name: self._image(image)})

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


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
        told = [name for name in self._client.get_run(self._id).data.metrics if not name.startswith(FIGURES)]
        steps = [each.step for name in told for each in self._client.get_metric_history(self._id, name)]
        self.last = max(steps, default=0)

    def _create(self, folder: Path) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        return str(self._client.create_run(experiment, run_name=folder.resolve().name).info.run_id)

    def params(self, values: Mapping[str, Any]) -> None:
        known = self._client.get_run(self._id).data.params
        new = [
            self._entities.Param(_plain_name(name), str(value))
            for name, value in values.items()
            if _plain_name(name) not in known  # MLflow refuses to change a parameter, such as more epochs
        ]
        for start in range(0, len(new), BATCH):
            self._client.log_batch(self._id, params=new[start : start + BATCH])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(_plain_name(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        known = self._client.get_run(self._id).data.metrics
        self.scalars(
            step, {name: value for name, value in values.items() if known.get(_plain_name(name)) != value}
        )

    def picture(self, name: str, png: bytes) -> None:
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            self._client.log_image(self._id, image, f"{name}.png")

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self._id, "KILLED" if failed else "FINISHED")


Opener = Callable[[Path, int | None], RunLogger]
LOGGERS: Mapping[str, tuple[str, Opener]] = {  # by name: the package, and what opens a run
    "tensorboard": ("tensorboard", TensorBoard),
    "wandb": ("wandb", Wandb),
    "mlflow": ("mlflow", Mlflow),
}


class Loggers:
    """Several loggers as one. One that fails is left out from then on, with one warning: training goes on."""

    def __init__(self, loggers: Mapping[str, Callable[[], RunLogger]], warn: Callable[[str], None]) -> None:
        self.is_closed = False
        self._warn = warn
        self._open: dict[str, RunLogger] = {}
        for name, opener in loggers.items():
            self._try(name, lambda opener=opener, name=name: self._open.update({name: opener()}))  # type: ignore[misc]
        self._last = {name: logger.last for name, logger in self._open.items()}

    def params(self, values: Mapping[str, Any]) -> None:
        """Tell the hyper-parameters, by dotted name; values that are no numbers become texts, without secrets."""
        plain = {name: _plain(value) for name, value in values.items()}
        self._each(lambda logger: logger.params(plain))

    def scalars(self, step: int, sections: Mapping[str, Mapping[str, Any]]) -> None:
        """Tell the finite numbers of each section as `section/name` of this step, to those that lack the step."""
        values = {f"{name}/{key}": value for name, section in sections.items() for key, value in section.items()}
        numbers = _numbers(values)
        if numbers:
            self._each(lambda logger: logger.scalars(step, numbers), step)

    def figures(self, step: int, values: Mapping[str, Any]) -> None:
        """Tell the finite numbers of an outcome as `figures/name`; `step` is the last epoch."""
        numbers = _numbers({f"{FIGURES}{name}": value for name, value in values.items()})
        if numbers:
            self._each(lambda logger: logger.figures(step, numbers))

    def picture(self, name: str, png: bytes) -> None:
        """Tell a picture, a PNG file."""
        self._each(lambda logger: logger.picture(name, png))

    def close(self, *, failed: bool = False) -> None:
        """End the run at all loggers; `failed` before its own end. Another call does nothing."""
        self._each(lambda logger: logger.close(failed=failed))
        self._open, self.is_closed = {}, True

    def _each(self, tell: Callable[[RunLogger], None], step: int | None = None) -> None:
        for name, logger in list(self._open.items()):
            if step is None or step > self._last[name]:
                self._try(name, lambda logger=logger: tell(logger))  # type: ignore[misc]

    def _try(self, name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # whatever a network or a program of others may raise
            self._open.pop(name, None)
            secrets = tuple(filter(None, (os.environ.get(each, "") for each in SECRETS)))
            line = _without_secrets(one_line(error, secrets))[:SHORTENED] or type(error).__name__
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
    """Return the run of a folder at the programs that the command asked for; on rank 0 only, elsewhere at none.

    `done` are the epochs that count of a run that goes on; None adds to a run that is finished. A run stays open
    until the command ends, or somebody closes it.
    """
    from skelpipe.train.running.ranks import ranks  # brings torch, without which a command can ask for loggers

    context = click.get_current_context(silent=True)
    names = loggers_asked() if ranks().is_main else ()
    if context is None or not names:
        return Loggers({}, lambda _: None)
    opened: dict[Path, Loggers] = context.meta.setdefault(OPENED, {})
    path = folder.resolve()
    if path not in opened or opened[path].is_closed:
        openers = {name: (lambda opener=LOGGERS[name][1]: opener(folder, done)) for name in names}
        opened[path] = Loggers(openers, lambda line: click.echo(line, err=True))
        context.call_on_close(opened[path].close)
    return opened[path]


def _ids(folder: Path) -> dict[str, str]:
    try:
        content = json.loads((folder / LOGGER_IDS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _keep_id(folder: Path, name: str, identity: str) -> None:
    write_json(folder / LOGGER_IDS, {**_ids(folder), name: identity})


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else _without_secrets(str(value))[:LONGEST]


def _without_secrets(text: str) -> str:
    """Return a text without the user-info and the query of its URLs."""
    return re.sub(r"(\w://)[^/\s@]*@", r"\1", re.sub(r"(\w://[^\s?]*)\?[^\s'\"]*", r"\1", text))


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers, but for the epoch itself."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and not name.endswith("/epoch")
    }


def _plain_name(name: str) -> str:
    return name.replace("@", "_")
