"""A run of training with labels from its start, or its newest checkpoint, to the scores of the test clips."""

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import replacing
from skelpipe.loader import Loader
from skelpipe.loader.stream import Stream
from skelpipe.models.globalnorm import use_global_batch
from skelpipe.models.method import Progress
from skelpipe.train.evaluation.dataset_rows import undivided
from skelpipe.train.evaluation.embedding import Embedded, embed
from skelpipe.train.evaluation.metrics import topk_accuracy
from skelpipe.train.evaluation.outcome import OWN
from skelpipe.train.recipes.recipe import Recipe, differences
from skelpipe.train.running.checkpoint import (
    Checkpoint,
    capture_rng,
    newest_checkpoint,
    restore_rng,
    save_checkpoint,
)
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
from skelpipe.train.running.rank_sync import check_equal, seed_ranks
from skelpipe.train.running.ranks import ranks
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import Console, RunLog
from skelpipe.train.training.classifier import Classifier

__all__ = ["Finetuner", "Fingerprint", "Plan"]

KEPT = 2  # checkpoints that stay: the newest, and the one before it should that be damaged
COLLAPSED = 0.01  # a spread of the features below this is called a collapse


@dataclass(frozen=True)
class Plan:
    """How to run, beside what to train."""

    out: Path
    device: torch.device
    amp: bool = False
    resume: bool = False
    overwrite: bool = False
    save_every: int = 10
    test_every: int = 5


@dataclass(frozen=True)
class Fingerprint:
    """What must be equal for a run to be gone on with. `digest` tells the rows trained on, `start` the weights."""

    recipe: Recipe
    digest: str
    view: str
    seed: int
    amp: bool
    start: str

    @classmethod
    def of(
        cls, dataset: Dataset, classifier: Classifier, recipe: Recipe, view: str, seed: int, amp: bool
    ) -> "Fingerprint":
        """Return the fingerprint of a run that is about to start."""
        content = hashlib.sha256()
        for name, value in classifier.state_dict().items():
            content.update(f"{name} {list(value.shape)}".encode() + value.cpu().contiguous().numpy().tobytes())
        return cls(recipe, dataset.digest, view, seed, amp, content.hexdigest())

    def texts(self) -> dict[str, str]:
        """Return it as plain texts, for a checkpoint."""
        fields = {name: str(getattr(self, name)) for name in FIELDS}
        return {**fields, "recipe": json.dumps(dict(self.recipe.values))}

    def differences(self, saved: dict[str, str], where: Path) -> list[str]:
        """Return one text for each field in which the run that wrote a checkpoint was another one.

        More epochs are no difference: they change nothing in those that are done.
        """
        missing = [name for name in (*FIELDS, "recipe") if name not in saved]
        if missing:
            raise SkelpipeError(f"{where}: is no checkpoint of a training with labels (no {', '.join(missing)})")
        now = self.texts()
        told = {"digest": "training clips", "start": "initial weights"}
        changed = [
            told[name] if name in told else f"{name}: {saved[name]}, now {now[name]}"
            for name in FIELDS
            if saved[name] != now[name]
        ]
        old = Recipe(json.loads(saved["recipe"]))
        if self.recipe["epochs"] > old.values.get("epochs", 0):
            old = replace(old, values={**old.values, "epochs": self.recipe["epochs"]})
        return changed + differences(old, self.recipe)


FIELDS = ("digest", "view", "seed", "amp", "start")


class Finetuner:
    """A run in memory: classifier, optimiser, data and position. Of several ranks each has one."""

    def __init__(self, dataset: Dataset, classifier: Classifier, fingerprint: Fingerprint, plan: Plan) -> None:
        self.team = ranks()
        self.dataset, self.fingerprint, self.plan = dataset, fingerprint, plan
        self.recipe, self.view = fingerprint.recipe, fingerprint.view
        self.epoch = 0  # whole epochs done
        self.best: dict[str, float] = {}
        self.classifier = classifier.to(plan.device)
        if self.team.world > 1:
            use_global_batch(classifier, self.team.sum)
        self.optimiser = build_optimiser(classifier, self.recipe)
        if self.recipe["optimiser.name"] == "sgd":  # whose pre-training knows no Nesterov
            for group in self.optimiser.param_groups:
                group["nesterov"] = self.recipe["optimiser.nesterov"]
        size, rank, world = self.recipe["batch_size"], self.team.rank, self.team.world
        stream = Stream(dataset, "train", ["joint"], size, seed=fingerprint.seed, rank=rank, world=world)
        self.loader = Loader(stream, plan.device, classifier.views(), derive="after", view=self.view)
        self._collapsed = False
        self._tested: tuple[int, Embedded] | None = None  # the newest scores and their epoch

    def run(self, console: Console) -> Embedded:
        """Train to the recipe's last epoch; return the test clips' scores in row order."""
        folder, plan = RunFolder(self.plan.out), self.plan
        same = (self.fingerprint.texts(), plan.resume, plan.save_every, plan.test_every, self.loader.state())
        self.team.agree("another dataset, recipe or option", repr(same))
        self.team.on_main(lambda: _claim(folder, plan))
        done = self._resume(folder, console) if plan.resume else 0
        if self.team.is_main:
            with replacing(folder.recipe) as file:
                file.write(self.recipe.to_yaml().encode())
        with RunLog(folder, done) if self.team.is_main else nullcontext() as log:
            while self.epoch < self.recipe["epochs"]:
                self._run_epoch(folder, log, console)
        return self.test()

    def test(self) -> Embedded:
        """Return the scores of every test clip, [N, classes] in place of features, without augmentation."""
        if self._tested is None or self._tested[0] != self.epoch:
            network = self.classifier.scores()
            self._tested = self.epoch, embed(network, self.dataset, "test", self.view, device=self.plan.device)
        return self._tested[1]

    def checkpoint(self) -> Checkpoint:
        """Return the run's state between two epochs."""
        return Checkpoint(
            identity=self.fingerprint.texts(),
            epoch=self.epoch,
            model=self.classifier.state_dict(),
            optimiser=self.optimiser.state_dict(),
            rng=capture_rng(self.plan.device),
            loader=self.loader.state(),
            best=self.best,
        )

    def _run_epoch(self, folder: RunFolder, log: RunLog | None, console: Console) -> None:
        """Train on every clip once, then test and save where that is due. Of several ranks one has a `log`."""
        self.team.on_main(lambda: check_unchanged(undivided(self.dataset)))
        epoch, last = self.epoch + 1, self.recipe["epochs"]
        rate = self._set_rate(epoch)
        result = self._train_epoch(console.steps(epoch, last, len(self.loader)))
        self.epoch = epoch
        learned = {"lr": rate, **result.learned}
        if due(epoch, self.plan.test_every, last):
            learned["top1"] = self._measure()
        if log is not None:
            log.write(epoch, learned, result.speed)
        console.say(_epoch_line(epoch, last, learned, result.speed))
        self._warn_of_collapse(learned["std"], console)
        if due(epoch, self.plan.save_every, last):
            check_weights(self.classifier, epoch)
            check_equal(self.classifier, self.team)
            if log is not None:
                log.sync()
                save_checkpoint(folder.checkpoints, self.checkpoint(), KEPT)

    def _set_rate(self, epoch: int) -> float:
        base, milestones = self.recipe["optimiser.lr"], self.recipe["optimiser.milestones"]
        rate = learning_rate(base, milestones, epoch, self.recipe["optimiser.warmup"])
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return rate

    def _train_epoch(self, working: Callable[[int, float], None]) -> EpochResult:
        accumulate = self.recipe["optimiser.accumulate"]
        seed_ranks(self.fingerprint.seed, self.epoch, self.team.rank, self.team)
        return train_epoch(
            self.classifier,
            self.optimiser,
            self.loader,
            Progress(self.epoch, self.recipe["epochs"], 0, updates(len(self.loader), accumulate)),
            device=self.plan.device,
            amp=self.plan.amp,
            accumulate=accumulate,
            ids=self.dataset.ids("train"),
            working=working,
            team=self.team,
        )

    def _measure(self) -> float:
        scores = self.test()
        figure = topk_accuracy(scores.features.numpy(), scores.labels.numpy())
        if figure > self.best.get("top1", -1.0):
            self.best = {"top1": figure, "epoch": self.epoch}
        return figure

    def _warn_of_collapse(self, gauge: float, console: Console) -> None:
        """Say once that the features lie nearly in one point, and again only after they had left it."""
        if gauge < COLLAPSED and not self._collapsed:
            console.say(
                f"the features of all clips are nearly the same (std {gauge:.4f} of 1): a lower --lr, more epochs "
                "or --set init=default may help"
            )
        self._collapsed = gauge < COLLAPSED

    def _resume(self, folder: RunFolder, console: Console) -> int:
        """Go on where the newest whole checkpoint stands; return the epochs that are done.

        Raises UsageError where that run was another one, listing what differs.
        """
        found = newest_checkpoint(folder.checkpoints, console.say, self.team)
        if found is None:
            console.say(f"{folder.path}: no checkpoint to resume from, starting with epoch 1")
            return 0
        path, saved = found
        if changed := self.fingerprint.differences(saved.identity, path):
            raise UsageError(f"{folder.path} is another run and cannot be resumed so: {'; '.join(changed)}")
        try:
            self.classifier.load_state_dict(saved.model)
            self.optimiser.load_state_dict(saved.optimiser)
        except (RuntimeError, ValueError) as error:
            raise SkelpipeError(f"{path}: does not fit this version: {' '.join(str(error).split())}") from None
        self.loader.load_state(saved.loader)
        restore_rng(saved.rng, self.plan.device)
        self.epoch, self.best = saved.epoch, dict(saved.best)
        console.say(f"resuming from {path}: {saved.epoch} epochs are done")
        return saved.epoch


def _claim(folder: RunFolder, plan: Plan) -> None:
    """Make the run's folder ready; the results of an earlier run go where it may be overwritten."""
    folder.open(resume=plan.resume, overwrite=plan.overwrite)
    if plan.overwrite:
        for name in OWN:
            (folder.path / name).unlink(missing_ok=True)


def _epoch_line(epoch: int, last: int, learned: dict[str, float], speed: dict[str, float]) -> str:
    tested = f", test {learned['top1']:.1f} %" if "top1" in learned else ""
    return (
        f"epoch {epoch}/{last}: loss {learned['loss']:.4f}, lr {learned['lr']:g}, training clips "
        f"{learned['accuracy']:.1f} %{tested}, {speed['samples_per_s']:,.0f} samples/s"
    )
