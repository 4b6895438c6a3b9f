"""A run of training: from its start, or its newest checkpoint, to its last epoch.

Pre-training and training with labels are such runs. They differ in what they train (a `Method`), in what they
measure on the way, and in what they leave at the end.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from signal import Signals as Names
from typing import Any, NoReturn

import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import read_card
from skelpipe.dataset.joined import parts_of
from skelpipe.errors import DatasetError, SkelpipeError, UsageError
from skelpipe.files import replacing
from skelpipe.loader import Loader, Stream
from skelpipe.loader.stream import AUTO
from skelpipe.loader.web_clips import web_window
from skelpipe.models.absent_bodies import teller
from skelpipe.models.body_backbone import BodyBackbone
from skelpipe.models.encoders import ENCODERS
from skelpipe.models.method import Method, Progress, ViewRecipes
from skelpipe.ownership import check_owned
from skelpipe.train.recipes.reader import to_yaml
from skelpipe.train.recipes.schema import FinetuneRecipe, PretrainRecipe
from skelpipe.train.running import plateau
from skelpipe.train.running.checkpoint import (
    KEEP,
    Checkpoint,
    capture_rng,
    newest_checkpoint,
    restore_rng,
    save_checkpoint,
)
from skelpipe.train.running.global_norm import average_statistics, running_statistics, use_global_batch
from skelpipe.train.running.loop import (
    EpochResult,
    build_optimiser,
    check_weights,
    due,
    set_rate,
    share_of,
    train_epoch,
    updates,
)
from skelpipe.train.running.provenance import Provenance
from skelpipe.train.running.rank_sync import check_equal, seed_ranks
from skelpipe.train.running.ranks import ranks
from skelpipe.train.running.requests import Request, Requests
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import Console, RunLog
from skelpipe.train.running.schedule import rate_at
from skelpipe.train.running.sigterm import Interrupted, Signals, Stopped, noting_signals
from skelpipe.train.running.step_graph import CudaRecorder, StepGraph
from skelpipe.train.running.tally import Tally

__all__ = ["BATCH_NORMS", "Measurement", "Run", "RunOptions", "compile_networks"]

UNTIMED = dict.fromkeys(("samples_per_s", "data_s", "step_s", "epoch_s"), 0.0)  # of steps that another run made
BATCH_NORMS = ("global", "rank")  # of whose clips batch normalisation takes the statistics
COLLAPSED = 0.01  # a `std` below this is called a collapse


@dataclass(frozen=True)
class RunOptions:
    """How to run, beside what to train.

    `save_every` is the epochs, or the time, between two checkpoints. `measure_every` 0 means never, but after the
    last epoch of fine-tuning. With `cuda_graph` steps are recorded and replayed (`StepGraph`).
    """

    out: Path
    device: torch.device
    resume: bool = False
    overwrite: bool = False
    save_every: int | timedelta = 10
    measure_every: int = 10
    reader: str = "native"
    batch_norm: str = "global"
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for what contradicts itself."""
        if self.cuda_graph and self.device.type != "cuda":
            raise UsageError(f"--cuda-graph needs a GPU, and the device is {self.device.type}")
        if self.resume and self.overwrite:
            raise UsageError("--resume continues a run, --overwrite deletes it: give one of them")


@dataclass(frozen=True)
class Measurement:
    """What a run measures now and then.

    `take` returns figures in % by name; of the figure `name` the best and its epoch are kept. `line` says an
    epoch in one line for people: (epoch, last epoch, what was learned, speed). `collapse` is the warning
    text; `{gauge}` is replaced by the measured std. `keep` is called, on rank 0, with the epoch of a new best.
    """

    name: str
    take: Callable[[], dict[str, float]] | None
    line: Callable[[int, int, dict[str, float], dict[str, float]], str]
    collapse: str
    keep: Callable[[int], None] | None = None


class Run:
    """A run in memory: method, optimiser, data and position. With several ranks, each has one."""

    def __init__(
        self,
        dataset: Dataset,
        method: Method,
        provenance: Provenance,
        options: RunOptions,
        measurement: Measurement,
        *,
        full_dataset: Dataset | None = None,
        keep: int = KEEP,
    ) -> None:
        """Train `method`, on its device already, on the train subset of `dataset`.

        `full_dataset` is the dataset that is checked for changes, where `dataset` has only some of its rows;
        `keep` is the number of checkpoints that stay.
        """
        self.team = ranks()
        self.dataset, self.method, self.provenance = dataset, method, provenance
        assert provenance.recipe is not None, "released weights have no recipe to be trained by"
        self.recipe: PretrainRecipe | FinetuneRecipe = provenance.recipe
        self.options, self.measurement = options, measurement
        self.folder = RunFolder(options.out)
        self.epoch = 0  # whole epochs done
        self.best: dict[str, float] = {}
        self._full_dataset, self._keep = full_dataset or dataset, keep
        self._collapsed = False
        self._tally = Tally()
        self._within: dict[str, Any] = {}  # of a checkpoint within an epoch, until that goes on
        self._unmeasured = False  # all steps of the epoch are done, but its figure is not taken
        self._signals = Signals()
        every = options.save_every
        self._epochs_apart = 0 if isinstance(every, timedelta) else every
        self._seconds_apart = every.total_seconds() if isinstance(every, timedelta) else 0.0
        self._requests = Requests(self.team, lambda: self._signals.number, self._seconds_apart)
        if options.cuda_graph and (self.team.world > 1 or self.recipe.optimiser.accumulate > 1):
            raise UsageError("--cuda-graph records steps of one batch on one GPU: not of several ranks or batches")
        self._norm_apart = self.team.world > 1 and options.batch_norm == "rank"
        if self.team.world > 1 and not self._norm_apart:
            use_global_batch(method, self.team.sum, compiled=provenance.compiled)
        if provenance.compiled:
            compile_networks(method)
        self.optimiser = build_optimiser(method, self.recipe.optimiser)
        self._graph: StepGraph | None = None
        if options.cuda_graph:
            self._graph = StepGraph(method, self.optimiser, CudaRecorder(options.device))
        self._views = method.views()
        self.loader = self._loader(self._views)

    def begin(self, console: Console, also: Sequence[str] = ()) -> int:
        """Make the run's folder ready and go on from its newest checkpoint, if asked; return the epochs done.

        `also` names further files of an earlier run, which are removed if overwriting is allowed.
        """
        options = self.options
        how = (options.resume, options.save_every, options.measure_every, options.batch_norm)
        same = (self.provenance.metadata(), how, self.loader.state())
        self.team.check_equal_text("another dataset, recipe or option", repr(same))
        self.team.on_main(lambda: self.folder.open(resume=options.resume, overwrite=options.overwrite, also=also))
        done = self._resume(console) if options.resume else 0
        if self.team.is_main:
            with replacing(self.folder.recipe) as file:
                file.write(to_yaml(self.recipe).encode())
        return done

    def train(self, done: int, console: Console) -> None:
        """Train epoch after epoch, with logs, measurements and checkpoints at their times.

        `done` is what `begin` returned. With several ranks, rank 0 alone writes. Raises DatasetError where the
        dataset is another one when an epoch begins, and `Stopped` after SIGTERM or SIGUSR1, once a checkpoint of
        the last step is written.
        """
        with (
            noting_signals() as self._signals,
            RunLog(self.folder, done, self._about()) if self.team.is_main else nullcontext() as log,
        ):
            self._requests.saved()
            while self.epoch < self.recipe.epochs:
                self._stop_if(self._requests.ask(always=True), log, console)
                self._run_epoch(log, console)
            self._full_dataset.finish_checks()
            self._stop_if(self._requests.ask(always=True), log, console)

    def _about(self) -> dict[str, Any]:
        """Return what loggers are told beside the recipe."""
        said = {
            name: text for name, text in self.provenance.metadata().items() if name not in ("recipe", "method")
        }
        return {**said, "ranks": self.team.world}

    def checkpoint(self) -> Checkpoint:
        """Return the run's state between two steps; all ranks call it together within an epoch."""
        step = len(self.loader) if self._unmeasured else self.loader.stream.step
        return Checkpoint(
            identity=self.provenance.metadata(),
            epoch=self.epoch,
            model=self.method.state_dict(),
            optimiser=self.optimiser.state_dict(),
            rng=capture_rng(self.options.device),
            loader=self.loader.state(),
            best=self.best,
            within=self._within or (self._of_epoch(step) if step else {}),
        )

    def _of_epoch(self, step: int) -> dict[str, Any]:
        """Return what a checkpoint needs of an epoch's first `step` batches, of all ranks."""
        within = self._tally.save(step, self.options.device, self.team)
        return {**within, "unmeasured": True} if self._unmeasured else within

    def _save(self, log: RunLog | None, said: Callable[[Path, str], None] = lambda *_: None) -> None:
        """Write a checkpoint between two steps or epochs; rank 0 then calls `said` with its path and its place."""
        step = len(self.loader) if self._unmeasured else self.loader.stream.step
        self.team.on_main(lambda: check_owned(self.folder.path))
        check_weights(self.method, self.epoch + (step > 0))
        apart = self._norm_apart and step and not self._unmeasured
        own = self._average_for_checkpoint() if apart else []
        check_equal(self.method, self.team)
        checkpoint = self.checkpoint()
        if own and checkpoint.within is not self._within:
            checkpoint.within["statistics"] = [self.team.gather(each[None]).cpu() for each in own]

        def save() -> None:
            assert log is not None
            log.sync()
            path = save_checkpoint(self.folder.checkpoints, checkpoint, self._keep)
            done = checkpoint.within.get("step", 0)
            at = f"epoch {self.epoch + 1}, step {done} of {len(self.loader)}" if done else f"{self.epoch} epochs"
            said(path, at)

        self.team.on_main(save)
        for statistic, value in zip(running_statistics(self.method), own, strict=False):
            statistic.copy_(value)
        self._requests.saved()

    def _average_for_checkpoint(self) -> list[Tensor]:
        """Average the ranks' statistics of batches, of which a checkpoint has one; return this rank's own."""
        own = [statistic.clone() for statistic in running_statistics(self.method)]
        average_statistics(self.method, self.team.sum, self.team.world)
        return own

    def _stop_if(self, request: Request, log: RunLog | None, console: Console) -> None:
        if request.signal:
            self._stop(request.signal, log, console)

    def _stop(self, number: int, log: RunLog | None, console: Console) -> NoReturn:
        """Write a checkpoint of this step, and raise `Stopped`."""

        def say(path: Path, at: str) -> None:
            console.say(
                f"{Names(number).name}: stopped after {at}; {path} is written, --resume goes on from there"
            )

        self._save(log, say)
        raise Stopped

    def _run_epoch(self, log: RunLog | None, console: Console) -> None:
        """Train on every clip once, then measure and save where that is due."""
        self.team.on_main(lambda: _check_unchanged(self._full_dataset))
        epoch, last, measurement = self.epoch + 1, self.recipe.epochs, self.measurement
        set_rate(self.optimiser, self._rate(epoch, 0))
        result = self._train_epoch(console.steps(epoch, last, len(self.loader)), partial(self._save, log))
        if result is None:
            self._stop(self._requests.ask().signal, log, console)
        learned = {"lr": self._rate(epoch, self._steps - 1), **result.learned}
        if measurement.take is not None and due(epoch, self.options.measure_every, last):
            learned |= self._measure(measurement.take, log, console)
        self.epoch, self._tally = epoch, Tally()
        plateau.look(self.optimiser, self.recipe.optimiser, result.learned["loss"])
        if log is not None:
            log.write(epoch, learned, result.speed)
        console.say(measurement.line(epoch, last, learned, result.speed))
        self._warn_of_collapse(learned.get("std", 1.0), console)
        timed = self._seconds_apart > 0
        every = last if timed else self._epochs_apart
        if due(epoch, every, last) or (timed and self._requests.ask(always=True).save):
            self._save(log)

    def _rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step, counted from 0, of an epoch, counted from 1."""
        settings = self.recipe.optimiser
        base = plateau.base_rate(self.optimiser, settings)
        return rate_at(settings, epoch, self.recipe.epochs, step, self._steps, base)

    @property
    def _steps(self) -> int:
        """The optimiser's steps per epoch."""
        return updates(len(self.loader), self.recipe.optimiser.accumulate)

    def _train_epoch(self, working: Callable[[int, float], None], save: Callable[[], None]) -> EpochResult | None:
        accumulate, seed, steps = self.recipe.optimiser.accumulate, self.provenance.seed, self._steps
        whole = bool(self._within.get("unmeasured"))  # nothing of the epoch is left but its figure
        step = steps - 1 if whole else self.loader.stream.step // accumulate
        start = Progress(self.epoch, self.recipe.epochs, step, steps)
        seed_ranks(seed, self.epoch, None, self.team)  # what begins a stage is the same on all ranks
        self.method.advance(start)
        seed_ranks(seed, self.epoch, self.team.rank, self.team)
        if self._within:
            self._tally = Tally.restore(self._within, self.options.device, self.team)
            self._restore_statistics(self._within.get("statistics", []))
            self._within = {}
        if whole:
            share = share_of(self.loader, self.team)
            return EpochResult(self._tally.means(self.team, share, self.options.device), UNTIMED)
        self._follow_views()
        result = train_epoch(
            self.method,
            self.optimiser,
            self.loader,
            start,
            device=self.options.device,
            amp=self.provenance.amp,
            accumulate=accumulate,
            ids=self.dataset.ids("train"),
            working=working,
            team=self.team,
            tally=self._tally,
            ask=self._requests.ask,
            save=save,
            rate=partial(self._rate, self.epoch + 1) if self.recipe.optimiser.per == "step" else None,
            graph=self._graph,
        )
        if self._norm_apart and result is not None:
            average_statistics(self.method, self.team.sum, self.team.world)
        return result

    def _restore_statistics(self, of_ranks: Sequence[Tensor]) -> None:
        """Set this rank's statistics of batches, where as many ranks saved theirs, each [ranks, channels]."""
        if len(of_ranks) and len(of_ranks[0]) == self.team.world:
            for statistic, values in zip(running_statistics(self.method), of_ranks, strict=True):
                statistic.copy_(values[self.team.rank])

    def _measure(
        self, take: Callable[[], dict[str, float]], log: RunLog | None, console: Console
    ) -> dict[str, float]:
        """Return the figures after the steps of an epoch; the best of the one that counts is kept.

        Taking them may last longer than a scheduler waits: a signal ends it, and the resumed run takes them.
        Several ranks look for signals before it only.
        """
        self._unmeasured = True
        self._stop_if(self._requests.ask(always=True), log, console)
        self.epoch += 1
        try:
            with self._signals.interrupting() if self.team.world == 1 else nullcontext():
                figures = take()
        except Interrupted:
            self.epoch -= 1
            self._stop(self._signals.number, log, console)
        self._unmeasured, name = False, self.measurement.name
        if figures[name] > self.best.get(name, -1.0):
            self.best = {name: figures[name], "epoch": self.epoch}
            if self.measurement.keep is not None and self.team.is_main:
                self.measurement.keep(self.epoch)
        return figures

    def _warn_of_collapse(self, gauge: float, console: Console) -> None:
        """Say once that the network has nearly collapsed, and again only after it had recovered."""
        if gauge < COLLAPSED and not self._collapsed:
            console.say(self.measurement.collapse.format(gauge=f"{gauge:.4f}"))
        self._collapsed = gauge < COLLAPSED

    def _follow_views(self) -> None:
        """Make the loader anew where another stage of the method asks for other views."""
        views = self.method.views()
        if views.keys() != self._views.keys() or any(views[name] is not self._views[name] for name in views):
            state = self.loader.state()
            self.loader.close()
            self.loader = self._loader(views)
            self.loader.load_state(state)
            self._views = views

    def _loader(self, views: ViewRecipes) -> Loader:
        """Return this rank's augmented share of the training batches; views are derived from augmented joints."""
        size, rank, world = self.recipe.batch_size, self.team.rank, self.team.world
        seed, view = self.provenance.seed, self.provenance.view
        balanced = isinstance(self.recipe, FinetuneRecipe) and self.recipe.balanced
        window = web_window(self.dataset, "train") if self.options.reader == "webdataset" else AUTO
        stream = Stream(
            self.dataset,
            "train",
            ["joint"],
            size,
            seed=seed,
            window=window,
            rank=rank,
            world=world,
            balanced=balanced,
        )
        # A graph replays steps of one shape, in which every row is computed.
        tell = None if self.options.cuda_graph else teller(self.method)
        reader = self.options.reader
        return Loader(stream, self.options.device, views, derive="after", view=view, reader=reader, tell=tell)

    def _resume(self, console: Console) -> int:
        """Go on where the folder's newest whole checkpoint stands; return the epochs that are done.

        Raises UsageError where that run was another one, listing what differs.
        """
        found = newest_checkpoint(self.folder.checkpoints, console.say, self.team)
        if found is None:
            console.say(f"{self.folder.path}: no checkpoint to resume from, starting with epoch 1")
            return 0
        path, saved = found
        if changed := self.provenance.differences(saved.identity, str(path)):
            raise UsageError(f"{self.folder.path} is another run and cannot be resumed so: {'; '.join(changed)}")
        for plugin in self.provenance.changed_plugins(saved.identity):
            console.say(f"the plug-in {plugin} has other files than when {path} was written")
        try:
            self.method.load_state_dict(saved.model)
            self.optimiser.load_state_dict(saved.optimiser)
        except (RuntimeError, ValueError) as error:
            raise SkelpipeError(f"{path}: does not fit this version: {' '.join(str(error).split())}") from None
        self.loader.load_state(saved.loader)
        restore_rng(saved.rng, self.options.device)
        self.epoch, self.best, self._within = saved.epoch, dict(saved.best), saved.within
        also = f", and {saved.within['step']} of {len(self.loader)} steps" if saved.within else ""
        console.say(f"resuming from {path}: {saved.epoch} epochs are done{also}")
        return saved.epoch


def compile_networks(method: Method, backend: str = "inductor") -> int:
    """Compile the feature maps of all backbones of a method, key networks' too; return how many there are.

    Compilation happens at the first batch of each shape. Which rows are computed is found outside the graph. Only
    the function on the module is replaced: the names of weights and their export do not change.
    """
    encoders: list[Any] = [module for module in method.modules() if type(module) in ENCODERS.values()]
    for encoder in encoders:
        name = "maps" if isinstance(encoder, BodyBackbone) else "features"
        setattr(encoder, name, torch.compile(getattr(encoder, name), backend=backend))
    return len(encoders)


def _check_unchanged(dataset: Dataset) -> None:
    """Read the card, or all cards, again; DatasetError if one is missing or another dataset's.

    A remote dataset with a cache is not asked: the cache does not change, and each fetch checks the card.
    """
    for part in parts_of(dataset):
        _check_card(part)


def _check_card(dataset: Dataset) -> None:
    if not dataset.is_prepared:  # its shards are hashed whenever they are read
        return
    if dataset.remote is not None:
        if dataset.remote.cache is None:
            dataset.remote.confirm(now=True)
        return
    now = read_card(dataset.filesystem.local_path)["digest"]
    if now != dataset.digest:
        raise DatasetError(
            f"{dataset.path}: was replaced during the run: its digest is {now}, the run trains on "
            f"{dataset.digest}. Put that dataset back and continue with --resume, or start another run"
        )
