"""How long a plan will take and how much disk it will need: estimated before anything runs.

A part whose like has run in the same work folder takes as long as that did. Otherwise a few steps of its training
are timed on its own dataset and device, and passes of its encoder for the evaluations; other work on the machine,
then or later, makes the estimate wrong. Nothing is written.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import Any

import numpy as np
import torch
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.devices import resolve_device
from skelpipe.loader.stream import epoch_size
from skelpipe.models.encoders import build_encoder
from skelpipe.models.method import Progress
from skelpipe.train.evaluation.embedding import embed
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import FinetuneRecipe, LinearRecipe, PretrainRecipe
from skelpipe.train.reproduction.work_folder import WorkFolder
from skelpipe.train.reproduction.work_plan import MAP, PRETRAIN, Command, WorkPlan
from skelpipe.train.running.checkpoint import KEEP
from skelpipe.train.running.loop import train_epoch
from skelpipe.train.running.networks import Networks
from skelpipe.train.running.provenance import ClipFacts, Provenance
from skelpipe.train.running.requests import Request
from skelpipe.train.running.run import RunOptions
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import read_log
from skelpipe.train.training.pretraining import pretraining_run

__all__ = ["Estimate", "estimate"]

STEPS = 3  # that are timed; the first, which allocates, does not count
CLIPS = 64  # that are embedded to time an encoder
BACKWARD = 3.0  # forward passes that a training step with labels takes
HEAD = 5e-6  # seconds that a linear classifier takes per clip and epoch, on one core
EVERY = {"knn": 10, "test": 5}  # epochs between the measurements of pre-training and of training with labels
PAGE = 1 << 20  # bytes of a report
GIGA = 1e9


@dataclass
class Estimate:
    """Seconds and bytes of what is still to be run; `not_known` names parts that no estimate is made of."""

    seconds: float = 0.0
    bytes: float = 0.0
    parts: int = 0
    measured: int = 0
    not_known: list[str] = field(default_factory=list)
    ranks: int = 1

    def lines(self) -> list[str]:
        """Return the estimate in words."""
        if not self.parts:
            return ["nothing is left to run"]
        hours = self.seconds / 3600
        took = f"{hours:.1f} hours" if hours >= 0.95 else f"{max(self.seconds / 60, 0.1):.1f} minutes"
        how = f"{self.measured} parts from runs in this folder, the others from a few timed steps"
        shared = f", if {self.ranks} ranks are {self.ranks} times as fast" if self.ranks > 1 else ""
        text = f"{self.parts} parts to run: about {took} and {self.bytes / GIGA:.2g} GB of disk ({how}{shared})"
        return [text, *(f"not in the estimate: {name}" for name in self.not_known)]


def estimate(plan: WorkPlan, work: WorkFolder, device: str) -> Estimate:
    """Estimate what the commands of a plan that are not done will take; see this module."""
    found = Estimate(ranks=work.ranks)
    timer = _Timer(resolve_device(device))
    known = {_like(each): took for each in plan.commands.values() if (took := work.seconds(each)) is not None}
    for command in plan.commands.values():
        if work.state(command) == "done":
            continue
        found.parts += 1
        found.bytes += timer.bytes(command)
        if command.module == "segment":
            found.not_known.append(command.name)
        elif _like(command) in known:
            found.seconds += known[_like(command)]
            found.measured += 1
        else:
            found.seconds += timer.seconds(command, work.run_of(command)) / work.ranks
    return found


def _like(command: Command) -> tuple[str, ...]:
    """Return what decides how long a command takes: all but its view, its seed and the runs that it reads."""
    words = [each for each in command.arguments if isinstance(each, str)]
    left = [word for i, word in enumerate(words) if not {word, words[i - 1] if i else ""} & {"--view", "--seed"}]
    trained = _trained_by(command)
    return (
        command.module,
        command.dataset.digest,
        *left,
        *(_like(trained) if trained and trained is not command else ()),
    )


def _trained_by(command: Command) -> Command | None:
    """Return the pre-training whose networks a command uses; None for those of a training from scratch."""
    if command.module == PRETRAIN:
        return command
    return next((found for each in command.needs if (found := _trained_by(each))), None)


def _options(command: Command) -> dict[str, list[str]]:
    """Return the values of the options of a command by name; a flag has none."""
    found: dict[str, list[str]] = {}
    for each in command.arguments:
        if isinstance(each, str) and each.startswith("--"):
            name = each.removeprefix("--")
            found.setdefault(name, [])
        elif isinstance(each, str) and found:
            found[name].append(each)
    return found


def _recipe(command: Command) -> Any:
    """Return the recipe that a command trains by, overrides applied; None where it trains nothing."""
    options = _options(command)

    def number(name: str, kind: type) -> Any:
        return kind(options[name][-1]) if options.get(name) else None

    kinds: Mapping[str, tuple[type[Any], str]] = {
        PRETRAIN: (PretrainRecipe, "skeletonclr"),
        "finetune": (FinetuneRecipe, "finetune-semi" if "labels" in options else "finetune"),
        "linear": (LinearRecipe, "linear"),
    }
    if command.module not in kinds:
        return None
    kind, default = kinds[command.module]
    recipe = load_recipe(options.get("recipe", [default])[-1], kind)
    over = {"epochs": number("epochs", int), "batch_size": number("batch-size", int), "lr": number("lr", float)}
    return with_overrides(recipe, options.get("set", []), **over)


class _Timer:
    """Times training steps and embeddings on a device, each kind once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._measured: dict[tuple[str, ...], tuple[float, float, float, float]] = {}

    def seconds(self, command: Command, run: Path) -> float:
        """Return the estimated seconds of a command; `run` is its folder, which holds the speed of a begun one."""
        dataset, recipe = command.dataset, _recipe(command)
        clips = {subset: dataset.count(subset) for subset in ("train", "test")}
        every = sum(clips.values())
        step, clip, _, _ = self._of(command)
        if command.module == PRETRAIN:
            batch = min(recipe.batch_size, clips["train"])
            speed = read_log(RunFolder(run).speed)
            epoch = (
                float(np.mean([line["epoch_s"] for line in speed])) if speed else clips["train"] // batch * step
            )
            left = recipe.epochs - len(speed)
            return left * epoch + left // EVERY["knn"] * every * clip
        if command.module == "finetune":
            share = float(_options(command).get("labels", ["1"])[-1])
            trained = BACKWARD * share * clips["train"] * recipe.epochs
            return clip * (trained + clips["test"] * (recipe.epochs // EVERY["test"] + 1))
        if command.module == "linear":
            return every * clip + HEAD * clips["train"] * recipe.epochs
        return every * clip if command.module in ("knn", MAP) else 0.0

    def bytes(self, command: Command) -> float:
        """Return the estimated bytes that a command leaves."""
        _, _, saved, exported = self._of(command)
        if command.module == PRETRAIN:
            return KEEP * saved + 2 * exported + PAGE
        scores = 4.0 * command.dataset.count("test") * max(len(command.dataset.classes), 1)
        own = {"finetune": 2 * 2 * exported + exported, "linear": exported}.get(command.module, 0.0)
        return own + scores + PAGE

    def _of(self, command: Command) -> tuple[float, float, float, float]:
        """Return seconds per training step and per embedded clip, bytes of a checkpoint and of an export."""
        trained = _trained_by(command)
        if command.module == "cost":
            return 0.0, 0.0, 0.0, 0.0
        key = _like(trained) if trained else ("supervised", command.dataset.digest)
        if key not in self._measured:
            self._measured[key] = self._scratch(command) if trained is None else self._pretraining(trained)
        return self._measured[key]

    def _scratch(self, command: Command) -> tuple[float, float, float, float]:
        recipe = _recipe(command)
        encoder = build_encoder(recipe.encoder, command.dataset.layout, "default", len(command.dataset.channels))
        return 0.0, self._embedding(encoder.to(self._device), command.dataset, "joint"), 0.0, _size([encoder])

    def _pretraining(self, command: Command) -> tuple[float, float, float, float]:
        dataset, recipe, options = command.dataset, _recipe(command), _options(command)
        count = epoch_size(dataset, "train")
        batch = min(recipe.batch_size, count)
        recipe = with_overrides(recipe, batch_size=batch)
        view = options["view"][-1]
        provenance = Provenance(
            clips=ClipFacts.of(dataset), view=view, views=(view,), recipe=recipe, amp="amp" in options
        )
        run, _ = pretraining_run(dataset, provenance, RunOptions(Path(), self._device), lambda text: None)
        start, times = Progress(0, recipe.epochs, 0, max(len(run.loader), 1)), [time.perf_counter()]
        run.method.advance(start)

        def enough() -> Request:
            """Ask to stop after some steps."""
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            times.append(time.perf_counter())
            return Request(SIGTERM if len(times) > STEPS else 0)

        train_epoch(
            run.method,
            run.optimiser,
            run.loader,
            start,
            device=self._device,
            amp=provenance.amp,
            accumulate=1,
            ids=dataset.ids("train"),
            working=lambda step, rate: None,
            ask=enough,
        )
        run.loader.close()
        times.append(time.perf_counter())
        steps = np.diff(times)
        networks = [Networks.of(run.method, each) for each in run.provenance.views]
        embedded = self._embedding(networks[0].encoder, dataset, run.provenance.views[0])
        learned = _size([run.method], learned=True) * (1 if recipe.optimiser.name == "sgd" else 2)
        return (
            float(np.median(steps[1:] if len(steps) > 1 else steps)),
            embedded,
            _size([run.method]) + learned,
            _size(networks),
        )

    def _embedding(self, encoder: nn.Module, dataset: Dataset, view: str) -> float:
        """Return the seconds that an encoder takes per clip, without a gradient."""
        rows = np.arange(min(CLIPS, dataset.count("train")))
        took = []
        for _ in range(2):
            begun = time.perf_counter()
            embed(encoder, dataset, "train", view, device=self._device, rows=rows)
            took.append(time.perf_counter() - begun)
        return took[-1] / max(len(rows), 1)


def _size(networks: Sequence[nn.Module], *, learned: bool = False) -> float:
    """Return the bytes of all tensors of some networks, or of their learned weights."""
    kept = [
        tensor
        for network in networks
        for tensor in (
            [each for each in network.parameters() if each.requires_grad]
            if learned
            else network.state_dict().values()
        )
    ]
    return float(sum(tensor.numel() * tensor.element_size() for tensor in kept))
