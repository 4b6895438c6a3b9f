"""A pre-training run from its start, or its newest checkpoint, to the exported encoder."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import replacing
from skelpipe.loader import Loader
from skelpipe.models.method import Method, Progress, Views
from skelpipe.stream import Stream
from skelpipe.train.checkpoint import (
    Checkpoint,
    capture_rng,
    newest_checkpoint,
    restore_rng,
    save_checkpoint,
)
from skelpipe.train.compiled import compile_networks
from skelpipe.train.engine import build_optimiser, check_weights, learning_rate, train_epoch, updates
from skelpipe.train.identity import Identity
from skelpipe.train.monitor import KnnMonitor
from skelpipe.train.pretrained import Networks, export, initialised
from skelpipe.train.runfolder import RunFolder
from skelpipe.train.runlog import Console, RunLog, read_log

__all__ = ["Options", "pretrain"]

COLLAPSED = 0.01  # a `std` below this is called a collapse


@dataclass(frozen=True)
class Options:
    """How to run, beside what to train."""

    out: Path
    device: torch.device
    resume: bool = False
    overwrite: bool = False
    save_every: int = 10
    knn_every: int = 10
    reader: str = "native"


def pretrain(dataset: Dataset, identity: Identity, options: Options, console: Console) -> dict[str, Any]:
    """Train `identity` on `dataset` to the end of its recipe, from the newest checkpoint on where there is one.

    Returns the summary that --json prints.
    """
    folder = RunFolder(options.out)
    run = Run(dataset, identity, options.device, options.reader)  # fails before an earlier run is deleted
    folder.open(resume=options.resume, overwrite=options.overwrite)
    done = run.resume(folder, console) if options.resume else 0
    with replacing(folder.recipe) as file:
        file.write(identity.recipe.to_yaml().encode())
    console.say(run.headline(folder))
    with RunLog(folder, done) as log:
        run.train(folder, log, options, console)
    export(folder, run.method, run.identity, run.epoch)
    return run.summary(folder)


class Run:
    """A pre-training run in memory: network, optimiser, data and position."""

    def __init__(self, dataset: Dataset, identity: Identity, device: torch.device, reader: str = "native") -> None:
        self.dataset = dataset
        self.device = device
        self.reader = reader
        self.epoch = 0  # whole epochs done
        self.best: dict[str, float] = {}
        self.collapsed = False
        recipe, view = identity.recipe, identity.view
        method = initialised(recipe, dataset.layout, identity.seed, view, _anchor(dataset, view))
        self.method: Method = method.to(device)
        self.identity = replace(identity, streams=self.method.streams(view))
        if identity.compiled:
            compile_networks(self.method)
        self.optimiser = build_optimiser(self.method, recipe)
        self.views = self.method.views()
        self.loader = _loader(dataset, identity, self.views, device, reader)
        self.monitors = {
            stream: KnnMonitor(dataset, stream, device, suffix="" if stream == view else f"-{stream}")
            for stream in self.identity.streams
        }
        self.monitor = self.monitors[view]

    def train(self, folder: RunFolder, log: RunLog, options: Options, console: Console) -> None:
        """Train epoch after epoch, with logs, kNN and checkpoints at their times."""
        recipe = self.identity.recipe
        last = recipe["epochs"]
        ids = self.dataset.ids("train")
        unmeasurable = self.monitor.missing()
        if options.knn_every and unmeasurable:
            console.say(unmeasurable)
        while self.epoch < last:
            epoch = self.epoch + 1
            rate = learning_rate(
                recipe["optimiser.lr"], recipe["optimiser.milestones"], epoch, recipe["optimiser.warmup"]
            )
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            start = Progress(self.epoch, last, 0, updates(len(self.loader), recipe["optimiser.accumulate"]))
            self.method.advance(start)
            self._follow_views()
            result = train_epoch(
                self.method,
                self.optimiser,
                self.loader,
                start,
                device=self.device,
                amp=self.identity.amp,
                accumulate=recipe["optimiser.accumulate"],
                ids=ids,
                working=_progress_of(console, epoch, last, len(self.loader)),
            )
            learned = {"lr": rate, **result.learned}
            if _due(epoch, options.knn_every, last) and not unmeasurable:
                learned |= self._measure(epoch)
            log.write(epoch, learned, result.speed)
            console.say(_epoch_line(epoch, last, learned, result.speed))
            self._warn_of_collapse(learned.get("std", 1.0), console)
            self.epoch = epoch
            if _due(epoch, options.save_every, last):
                check_weights(self.method, epoch)
                log.sync()
                save_checkpoint(folder.checkpoints, self.checkpoint())

    def checkpoint(self) -> Checkpoint:
        """Return the run's state between two epochs."""
        return Checkpoint(
            identity=self.identity.metadata(),
            epoch=self.epoch,
            model=self.method.state_dict(),
            optimiser=self.optimiser.state_dict(),
            rng=capture_rng(self.device),
            loader=self.loader.state(),
            best=self.best,
        )

    def resume(self, folder: RunFolder, console: Console) -> int:
        """Go on where the folder's newest whole checkpoint stands; return the epochs that are done.

        Raises UsageError where that run was another one, listing what differs.
        """
        found = newest_checkpoint(folder.checkpoints, console.say)
        if found is None:
            console.say(f"{folder.path}: no checkpoint to resume from, starting with epoch 1")
            return 0
        path, saved = found
        differences = Identity.from_metadata(saved.identity, str(path)).differences(self.identity)
        if differences:
            raise UsageError(f"{folder.path} is another run and cannot be resumed so: {'; '.join(differences)}")
        try:
            self.method.load_state_dict(saved.model)
            self.optimiser.load_state_dict(saved.optimiser)
        except (RuntimeError, ValueError) as error:
            raise SkelpipeError(f"{path}: does not fit this version: {' '.join(str(error).split())}") from None
        self.loader.load_state(saved.loader)
        restore_rng(saved.rng, self.device)
        self.epoch, self.best = saved.epoch, dict(saved.best)
        console.say(f"resuming from {path}: {saved.epoch} epochs are done")
        return saved.epoch

    def headline(self, folder: RunFolder) -> str:
        """Return the line that opens a run's output."""
        steps = len(self.loader)
        learned = sum(p.numel() for p in self.method.parameters() if p.requires_grad)
        return (
            f"{self.identity.recipe.method} on {self.identity.dataset} ({self.identity.view}): "
            f"{self.dataset.count('train')} clips, {steps} step{'s' if steps > 1 else ''} of "
            f"{self.identity.recipe['batch_size']} an epoch, {learned:,} weights, {self.device}, run {folder.path}"
        )

    def summary(self, folder: RunFolder) -> dict[str, Any]:
        """Return what the run came to."""
        records = read_log(folder.log)
        names = [monitor.name for monitor in self.monitors.values()]
        measured = [record for record in records if self.monitor.name in record]
        return {
            "run": str(folder.path),
            "weights": str(folder.weights),
            "epochs": self.epoch,
            "loss": records[-1]["loss"] if records else None,
            "figures": {name: measured[-1][name] for name in names} if measured else {},
            "best": self.best,
        }

    def _warn_of_collapse(self, gauge: float, console: Console) -> None:
        """Say once that the embeddings lie nearly in one point, and again only after they had left it."""
        if gauge < COLLAPSED and not self.collapsed:
            console.say(f"the embeddings have nearly collapsed to one point (std {gauge:.4f} of 1)")
        self.collapsed = gauge < COLLAPSED

    def _follow_views(self) -> None:
        """Make the loader anew where another stage of the method wants other views."""
        views = self.method.views()
        if views.keys() != self.views.keys() or any(views[name] is not self.views[name] for name in views):
            state = self.loader.state()
            self.loader.close()
            self.loader = _loader(self.dataset, self.identity, views, self.device, self.reader)
            self.loader.load_state(state)
            self.views = views

    def _measure(self, epoch: int) -> dict[str, float]:
        """Return the kNN figure of each view's networks; the best of the run's own view is kept."""
        figures = {
            monitor.name: monitor.measure(Networks.of(self.method, stream).embedder("z"))
            for stream, monitor in self.monitors.items()
        }
        figure = figures[self.monitor.name]
        if figure > self.best.get(self.monitor.name, -1.0):
            self.best = {self.monitor.name: figure, "epoch": epoch}
        return figures


def _anchor(dataset: Dataset, view: str) -> Callable[[], Tensor]:
    return lambda: torch.from_numpy(dataset.anchor(view))


def _loader(dataset: Dataset, identity: Identity, views: Views, device: torch.device, reader: str) -> Loader:
    """Return augmented batches of the training split; views are derived after augmenting the joints (spec A8)."""
    recipe = identity.recipe
    stream = Stream(dataset, "train", ["joint"], recipe["batch_size"], seed=identity.seed)
    return Loader(stream, device, views, derive="after", view=identity.view, reader=reader)


def _due(epoch: int, every: int, last: int) -> bool:
    """Say whether something done every so many epochs (0: never), and after the last, is due."""
    return every > 0 and (epoch % every == 0 or epoch == last)


def _progress_of(console: Console, epoch: int, last: int, steps: int) -> Callable[[int, float], None]:
    def show(step: int, rate: float) -> None:
        if step < steps:
            console.working(f"epoch {epoch}/{last}: step {step}/{steps}, {rate:,.0f} samples/s")

    return show


def _epoch_line(epoch: int, last: int, learned: dict[str, float], speed: dict[str, float]) -> str:
    gauge = f", std {learned['std']:.3f}" if "std" in learned else ""
    figures = "".join(f", {name} {value:.1f} %" for name, value in learned.items() if name.startswith("knn"))
    return (
        f"epoch {epoch}/{last}: loss {learned['loss']:.4f}, lr {learned['lr']:g}{gauge}{figures}, "
        f"{speed['samples_per_s']:,.0f} samples/s ({speed['data_s']:.1f} s waiting for data, "
        f"{speed['step_s']:.1f} s in steps)"
    )
