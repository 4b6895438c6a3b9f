"""A pre-training run from its start, or its newest checkpoint, to the exported encoder."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import replacing
from skelpipe.loader import Loader
from skelpipe.loader.stream import Stream
from skelpipe.models.globalnorm import average_statistics, use_global_batch
from skelpipe.models.method import Method, Progress, ViewRecipes
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.checkpoint import (
    Checkpoint,
    capture_rng,
    newest_checkpoint,
    restore_rng,
    save_checkpoint,
)
from skelpipe.train.running.compiled import compile_networks
from skelpipe.train.running.dataset_unchanged import check_unchanged
from skelpipe.train.running.loop import (
    EpochResult,
    build_optimiser,
    check_weights,
    due,
    learning_rate,
    train_epoch,
    updates,
)
from skelpipe.train.running.networks import Networks, export, initialised
from skelpipe.train.running.provenance import Identity
from skelpipe.train.running.rank_sync import check_equal, seed_ranks
from skelpipe.train.running.ranks import ranks
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import Console, RunLog, read_log
from skelpipe.train.training.knn_monitor import KnnMonitor
from skelpipe.train.training.start_weights import UNTRAINED, start_from

__all__ = ["BATCH_NORMS", "Options", "pretrain"]

BATCH_NORMS = ("global", "rank")  # whose clips batch normalisation takes its statistics of

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
    batch_norm: str = "global"
    start: str | None = None  # the weights to start from, as --checkpoint names them


def pretrain(dataset: Dataset, identity: Identity, options: Options, console: Console) -> dict[str, Any]:
    """Train `identity` on `dataset` to the end of its recipe, from the newest checkpoint on where there is one.

    Returns the summary that --json prints.
    """
    team = ranks()
    folder = RunFolder(options.out)
    run = Run(dataset, identity, options, console.say)  # fails before an earlier run is deleted
    how = (options.resume, options.save_every, options.knn_every, options.batch_norm)
    team.agree("another dataset, recipe or option", repr((run.identity.metadata(), how, run.loader.state())))
    team.on_main(lambda: folder.open(resume=options.resume, overwrite=options.overwrite))
    done = run.resume(folder, console) if options.resume else 0
    if team.is_main:
        with replacing(folder.recipe) as file:
            file.write(identity.recipe.to_yaml().encode())
    console.say(run.headline(folder))
    if run.method.begins_trained() and not run.identity.begun_from:
        console.say(UNTRAINED.format(identity.recipe.method))
    with RunLog(folder, done) if team.is_main else nullcontext() as log:
        run.train(folder, log, options, console)
    if team.is_main:
        export(folder, run.method, run.identity, run.epoch)
        write_report(folder.path, dataset)
    return run.summary(folder)


class Run:
    """A pre-training run in memory: network, optimiser, data and position. Of several ranks each has one."""

    def __init__(self, dataset: Dataset, identity: Identity, options: Options, say: Callable[[str], None]) -> None:
        self.team = ranks()
        self.dataset = dataset
        self.device = device = options.device
        self.reader = options.reader
        self.norm_apart = self.team.world > 1 and options.batch_norm == "rank"
        self.epoch = 0  # whole epochs done
        self.best: dict[str, float] = {}
        self.collapsed = False
        recipe, view = identity.recipe, identity.view
        method = initialised(recipe, dataset.layout, identity.seed, view, _anchor(dataset, view))
        start = "" if options.start is None else start_from(options.start, method, recipe, dataset, view, say)
        self.method: Method = method.to(device)
        self.identity = replace(identity, streams=self.method.streams(view), begun_from=start)
        if self.team.world > 1 and not self.norm_apart:
            use_global_batch(self.method, self.team.sum)
        if identity.compiled:
            compile_networks(self.method)
        self.optimiser = build_optimiser(self.method, recipe)
        self.views = self.method.views()
        self.loader = self._loader(identity, self.views)
        self.monitors = {
            stream: KnnMonitor(dataset, stream, device, suffix="" if stream == view else f"-{stream}")
            for stream in self.identity.streams
        }
        self.monitor = self.monitors[view]

    def train(self, folder: RunFolder, log: RunLog | None, options: Options, console: Console) -> None:
        """Train epoch after epoch, with logs, kNN and checkpoints at their times.

        Of several ranks one has a `log`. Raises DatasetError where the dataset is another one as an epoch begins.
        """
        last = self.identity.recipe["epochs"]
        unmeasurable = self.monitor.missing()
        if options.knn_every and unmeasurable:
            console.say(unmeasurable)
        while self.epoch < last:
            epoch = self.epoch + 1
            self.team.on_main(lambda: check_unchanged(self.dataset))
            rate = self._set_rate(epoch)
            result = self._train_epoch(console.steps(epoch, last, len(self.loader)))
            learned = {"lr": rate, **result.learned}
            if due(epoch, options.knn_every, last) and not unmeasurable:
                learned |= self._measure(epoch)
            if log is not None:
                log.write(epoch, learned, result.speed)
            console.say(_epoch_line(epoch, last, learned, result.speed))
            self._warn_of_collapse(learned.get("std", 1.0), console)
            self.epoch = epoch
            if due(epoch, options.save_every, last):
                check_weights(self.method, epoch)
                check_equal(self.method, self.team)
                if log is not None:
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
        found = newest_checkpoint(folder.checkpoints, console.say, self.team)
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
        where = f"{self.team.world} ranks, {self.device}" if self.team.world > 1 else f"{self.device}"
        learned = sum(p.numel() for p in self.method.parameters() if p.requires_grad)
        begun = f" (from {self.identity.begun_from})" if self.identity.begun_from else ""
        return (
            f"{self.identity.recipe.method} on {self.identity.dataset} ({self.identity.view}): "
            f"{self.dataset.count('train')} clips, {steps} step{'s' if steps > 1 else ''} of "
            f"{self.identity.recipe['batch_size']} an epoch, {learned:,} weights{begun}, {where}, "
            f"run {folder.path}"
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

    def _set_rate(self, epoch: int) -> float:
        recipe = self.identity.recipe
        base, milestones = recipe["optimiser.lr"], recipe["optimiser.milestones"]
        rate = learning_rate(base, milestones, epoch, recipe["optimiser.warmup"])
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return rate

    def _train_epoch(self, working: Callable[[int, float], None]) -> EpochResult:
        recipe, seed = self.identity.recipe, self.identity.seed
        accumulate = recipe["optimiser.accumulate"]
        start = Progress(self.epoch, recipe["epochs"], 0, updates(len(self.loader), accumulate))
        seed_ranks(seed, self.epoch, None, self.team)  # what begins a stage is the same on all ranks
        self.method.advance(start)
        seed_ranks(seed, self.epoch, self.team.rank, self.team)
        self._follow_views()
        result = train_epoch(
            self.method,
            self.optimiser,
            self.loader,
            start,
            device=self.device,
            amp=self.identity.amp,
            accumulate=accumulate,
            ids=self.dataset.ids("train"),
            working=working,
            team=self.team,
        )
        if self.norm_apart:
            average_statistics(self.method, self.team.sum, self.team.world)
        return result

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
            self.loader = self._loader(self.identity, views)
            self.loader.load_state(state)
            self.views = views

    def _loader(self, identity: Identity, views: ViewRecipes) -> Loader:
        """Return this rank's augmented share of the training batches.

        Views are derived after augmenting the joints (spec A8).
        """
        size, rank, world = identity.recipe["batch_size"], self.team.rank, self.team.world
        stream = Stream(self.dataset, "train", ["joint"], size, seed=identity.seed, rank=rank, world=world)
        return Loader(stream, self.device, views, derive="after", view=identity.view, reader=self.reader)

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


def _epoch_line(epoch: int, last: int, learned: dict[str, float], speed: dict[str, float]) -> str:
    gauge = f", std {learned['std']:.3f}" if "std" in learned else ""
    figures = "".join(f", {name} {value:.1f} %" for name, value in learned.items() if name.startswith("knn"))
    return (
        f"epoch {epoch}/{last}: loss {learned['loss']:.4f}, lr {learned['lr']:g}{gauge}{figures}, "
        f"{speed['samples_per_s']:,.0f} samples/s ({speed['data_s']:.1f} s waiting for data, "
        f"{speed['step_s']:.1f} s in steps)"
    )
