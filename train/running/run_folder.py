"""The folder of a run: its files, and when it may be written to."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skelpipe.door.refusals import why
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import PART
from skelpipe.ownership import LOCK, hold
from skelpipe.views import VIEWS

__all__ = ["BEST", "CLASSIFIER", "LOGGER_IDS", "RunFolder", "check_weights_exist", "run_name"]

BEST = "best"
LOGGER_IDS = "loggers.json"  # ids of the run at W&B and MLflow, by which a resumed run goes on
CLASSIFIER = "classifier.safetensors"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run of training under `path`."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe, overrides included. A folder that has it is a run."""
        return self.path / "recipe.yaml"

    @property
    def log(self) -> Path:
        """One JSON object per epoch: what was learned. Equal runs write equal bytes."""
        return self.path / "log.jsonl"

    @property
    def speed(self) -> Path:
        """One JSON object per epoch: how long it took on this machine."""
        return self.path / "speed.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """The finished run's encoder and head."""
        return self.path / "encoder.safetensors"

    @property
    def best(self) -> "RunFolder":
        """A folder with the weights at the highest kNN figure so far, named as those of the finished run."""
        return RunFolder(self.path / BEST)

    @property
    def classifier(self) -> Path:
        """The network and linear layer that a finished training with labels leaves."""
        return self.path / CLASSIFIER

    def weights_of(self, stream: str) -> Path:
        """The weights for another view, of a run that trained networks for several views."""
        return self.path / f"encoder-{stream}.safetensors"

    def is_run(self) -> bool:
        return self.recipe.is_file()

    def open(self, *, resume: bool, overwrite: bool, also: Sequence[str] = ()) -> None:
        """Make the folder ready; UsageError if files would be lost, or another process writes there.

        A command that is running holds it until it ends (`skelpipe.ownership.hold`).
        `overwrite` removes an earlier run's own files, those named by `also` among them, and nothing else.
        """
        try:
            self.check(resume=resume, overwrite=overwrite)
            hold(self.path)
            self.check(resume=resume, overwrite=overwrite)  # what is there by now
            self._make(overwrite=overwrite, also=also)
        except OSError as error:
            raise SkelpipeError(f"{self.path}: cannot be made ready: {why(error)}") from None

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Raise UsageError for a folder with other files, for a file, and for a run that may not be touched."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file: name another folder with --out")
        there = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        if not self.is_run() and any(name != LOCK and not name.endswith(PART) for name in there):
            raise UsageError(f"{self.path} holds files but no run: name another folder with --out")
        if self.is_run() and not (resume or overwrite):
            raise UsageError(f"{self.path} already holds a run: give --resume to go on, --overwrite to start anew")

    def _make(self, *, overwrite: bool, also: Sequence[str]) -> None:
        if self.is_run() and overwrite:
            for folder in (self.checkpoints, self.tensorboard, self.path / "wandb", self.best.path):
                if folder.is_dir():
                    shutil.rmtree(folder)
            others = (*map(self.weights_of, VIEWS), *(self.path / name for name in also))
            for file in (
                self.weights,
                *others,
                self.log,
                self.speed,
                self.recipe,
                self.path / "report.html",
                self.path / LOGGER_IDS,
            ):
                file.unlink(missing_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)


def check_weights_exist(source: str) -> None:
    """Raise UsageError where there is neither a file nor a folder to take weights from."""
    if not Path(source).exists():
        hint = ": weights are read from local files; fetch it first" if "://" in source else ""
        raise UsageError(f"{source}: there is no such run or file{hint}")


def run_name(source: str) -> str:
    """Return what the folders that are made of a run or file of weights call it; `RUN-best` for `RUN/best`."""
    path = Path(source)
    return f"{path.parent.name}-{BEST}" if path.name == BEST and path.parent.name else path.stem
