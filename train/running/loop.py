"""The training loop of one epoch, which all methods share."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.loader import Batch, Loader
from skelpipe.models.method import Method, Progress, spread
from skelpipe.models.moco import MoCo
from skelpipe.train.recipes.schema import LearningRates
from skelpipe.train.running.optimisers import fused_where_possible, uncompiled
from skelpipe.train.running.rank_sync import sum_gradients
from skelpipe.train.running.ranks import ALONE, Ranks
from skelpipe.train.running.requests import Request
from skelpipe.train.running.step_graph import StepGraph
from skelpipe.train.running.tally import Tally

__all__ = [
    "EpochResult",
    "build_optimiser",
    "check_weights",
    "due",
    "optimiser_of",
    "set_rate",
    "share_of",
    "train_epoch",
    "updates",
]

CHECK_EVERY = 50  # steps between checks of the loss on a GPU, where each check waits for the device
NAMED = 8  # samples that an error names


def due(epoch: int, every: int, last: int) -> bool:
    """Say whether something that is done `every` so many epochs (0: never) and after the last one is due."""
    return every > 0 and (epoch % every == 0 or epoch == last)


@dataclass(frozen=True)
class EpochResult:
    """`learned` is the same for equal runs; `speed` depends on the machine."""

    learned: dict[str, float]
    speed: dict[str, float]


def updates(batches: int, accumulate: int) -> int:
    """Return the optimiser's steps per epoch; the last step may have fewer batches than the others."""
    return math.ceil(batches / accumulate)


def build_optimiser(method: nn.Module, settings: LearningRates) -> torch.optim.Optimizer:
    """Return the optimiser of everything that the method learns; see `optimiser_of`."""
    return optimiser_of([each for each in method.parameters() if each.requires_grad], settings)


def optimiser_of(learned: Sequence[Tensor], settings: LearningRates) -> torch.optim.Optimizer:
    """Return SGD, Adam or AdamW, with decay on every parameter; UsageError for a value that it does not take."""
    rate, decay, momentum = settings.lr, settings.weight_decay, settings.momentum
    betas, how = (momentum, settings.beta2), fused_where_possible(learned)
    try:
        if settings.name == "adam":
            return uncompiled(torch.optim.Adam)(learned, lr=rate, betas=betas, weight_decay=decay, **how)
        if settings.name == "adamw":
            return uncompiled(torch.optim.AdamW)(learned, lr=rate, betas=betas, weight_decay=decay, **how)
    except ValueError as error:
        raise UsageError(f"optimiser.name={settings.name}: {error}") from None
    optimiser = uncompiled(torch.optim.SGD)(learned, lr=rate, momentum=momentum, weight_decay=decay, **how)
    for group in optimiser.param_groups:  # the constructor refuses it without momentum
        group["nesterov"] = getattr(settings, "nesterov", False)
    return optimiser


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def train_epoch(
    method: Method,
    optimiser: torch.optim.Optimizer,
    loader: Loader,
    start: Progress,
    *,
    device: torch.device,
    amp: bool,
    accumulate: int,
    ids: Sequence[str],
    working: Callable[[int, float], None],
    team: Ranks = ALONE,
    tally: Tally | None = None,
    ask: Callable[[], Request] = Request,
    save: Callable[[], None] = lambda: None,
    rate: Callable[[int], float] | None = None,
    graph: StepGraph | None = None,
) -> EpochResult | None:
    """Train on what is left of the loader's epoch, after `method.advance(start)`; `ids` are its samples' names by
    index. `tally` holds the batches before, and takes the new ones.

    After each step of the optimiser but the last, `ask()` says, alike on all ranks, what to do before the next
    batch, at which the loader stands: `save()`, or, where a signal came, to read nothing of the epoch's rest and
    return None.

    `rate`, where it changes within the epoch, says the learning rate of a step, counted from 0. With a `graph`,
    of one rank and where each step has one batch, steps are recorded and replayed.

    A step of the optimiser follows the mean gradient of `accumulate` batches: each batch enters its keys into the
    queue, and the key network moves once. `working(batches done, samples/s)` is called after every check of the
    loss: after each batch on a CPU, less often on a GPU. Raises SkelpipeError at the first loss that is not
    finite.

    In a `team` of several ranks each trains on its share of every batch; all batches have one size. Gradients,
    loss and logs are those of the global batch (means over its clips, except `std`, the mean of the shares' own).
    Times are those of this rank, samples those of all ranks.
    """
    tally = Tally() if tally is None else tally
    every = 1 if device.type == "cpu" else CHECK_EVERY
    watch = LossWatch(ids, every, team, partial(_damaged, loader), tally.losses)
    share = share_of(loader, team)
    if team.world > 1:
        counts = team.shares(loader.stream.batch_size)
        _share_keys(method, partial(team.gather, counts=counts))
    stepper = Stepper(method, optimiser, start, len(loader), accumulate, team, share, rate)

    def work(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
            step = method(batch)
        stepper.learn(batch.step, step.loss)
        watched = step.logs if "std" in step.logs else {**step.logs, "std": spread(step.embeddings)}
        return step.loss.detach(), watched  # without logits, which would lie in memory through the next step

    take = work if graph is None else partial(graph.step, work)
    samples = 0
    waited = 0.0
    method.train()
    begun = ready = time.perf_counter()
    for batch in loader:
        waited += time.perf_counter() - ready
        stepper.begin(batch.step)
        loss, watched = take(batch)
        stepper.go_on(batch.step)
        samples += len(batch.index)
        tally.add(watched)
        if watch.add(batch.epoch + 1, batch.step + 1, loss, batch.index):
            working(batch.step + 1, samples / share / (time.perf_counter() - begun))
        if stepper.between_steps and batch.step + 1 < len(loader):
            request = ask()
            if request.signal or request.save:
                watch.look()
            if request.signal:
                return None
            if request.save:
                save()
        ready = time.perf_counter()
    watch.look()
    took = time.perf_counter() - begun
    speed = {"samples_per_s": samples / share / took, "data_s": waited, "step_s": took - waited, "epoch_s": took}
    learned = tally.means(team, share, device)
    return EpochResult(learned, {name: round(value, 3) for name, value in speed.items()})


def share_of(loader: Loader, team: Ranks) -> float:
    """Return which part of every batch is this rank's."""
    if team.world == 1:
        return 1.0
    counts = team.shares(loader.stream.batch_size)
    return counts[team.rank] / sum(counts)


def _share_keys(method: Method, gather: Callable[[Tensor], Tensor]) -> None:
    for module in method.modules():
        if isinstance(module, MoCo):
            module.gather = gather


class Stepper:
    """The work before and after the forward pass of each batch: gradients are summed, then the optimiser steps.

    A rank has `share` of every batch: its loss is weighted by that, and the gradients of all ranks are added.
    """

    def __init__(
        self,
        method: Method,
        optimiser: torch.optim.Optimizer,
        start: Progress,
        batches: int,
        accumulate: int,
        team: Ranks = ALONE,
        share: float = 1.0,
        rate: Callable[[int], float] | None = None,
    ) -> None:
        self._rate = rate
        self._method = method
        self._optimiser = optimiser
        self._progress = start
        self._batches = batches
        self._accumulate = accumulate
        self._team = team
        self._share = share
        self._contrasts = [module for module in method.modules() if isinstance(module, MoCo)]
        self.between_steps = True  # no gradient waits for a step

    def begin(self, batch: int) -> None:
        """Prepare for the forward pass of an epoch's batch, counted from 0."""
        self._hold(batch % self._accumulate > 0)

        if self._rate is not None and self._is_last(batch):
            set_rate(self._optimiser, self._rate(self._progress.step))

    def learn(self, batch: int, loss: Tensor) -> None:
        """Take the batch's gradient; after the last batch of a step, make the step."""
        first, size = self._of(batch)
        if batch == first:
            self._optimiser.zero_grad(set_to_none=True)
        weight = self._share / size
        (loss if weight == 1 else loss * self._share / size).backward()
        if not self._is_last(batch):
            return
        sum_gradients(self._method, self._team)
        self._optimiser.step()
        self._hold(False)
        self._method.finish()

    def go_on(self, batch: int) -> None:
        """After the last batch of a step, prepare the next step."""
        self.between_steps = self._is_last(batch)
        if not self.between_steps:
            return
        self._progress = replace(self._progress, step=self._progress.step + 1)
        if self._progress.step < self._progress.steps:
            self._method.advance(self._progress)

    def _of(self, batch: int) -> tuple[int, int]:
        """Return the first batch of the step that a batch belongs to, and how many the step has."""
        first = batch - batch % self._accumulate
        return first, min(self._accumulate, self._batches - first)

    def _is_last(self, batch: int) -> bool:
        first, size = self._of(batch)
        return batch == first + size - 1

    def _hold(self, held: bool) -> None:
        for contrast in self._contrasts:
            contrast.held = held


def check_weights(method: nn.Module, epoch: int) -> None:
    """Raise SkelpipeError if a weight is no longer finite: such a state must not be saved."""
    broken = [name for name, value in method.state_dict().items() if not bool(value.isfinite().all())]
    if broken:
        raise SkelpipeError(
            f"after epoch {epoch} {broken[0]} is not finite ({len(broken)} tensors are not); {ADVICE}"
        )


class LossWatch:
    """Keeps the losses of an epoch on the device and checks them every `every` steps, together with all ranks."""

    def __init__(
        self,
        ids: Sequence[str],
        every: int,
        team: Ranks = ALONE,
        damaged: Callable[[Tensor], Tensor] | None = None,
        losses: list[Tensor] | None = None,
    ) -> None:
        """`damaged` returns those rows of a batch whose stored clips are not finite; `losses` takes the losses."""
        self._damaged = damaged
        self._ids = ids
        self._every = every
        self._team = team
        self._losses: list[Tensor] = [] if losses is None else losses
        self._pending: list[tuple[int, int, Tensor]] = []

    def add(self, epoch: int, step: int, loss: Tensor, index: Tensor) -> bool:
        """Add the loss of one step; return whether the losses were checked at this step."""
        self._losses.append(loss)
        self._pending.append((epoch, step, index))
        if len(self._pending) < self._every:
            return False
        self.look()
        return True

    def finish(self) -> float:
        """Check the remaining losses and return the mean loss of the epoch."""
        self.look()
        return float(torch.stack(self._losses).double().mean())

    def look(self) -> None:
        """Raise SkelpipeError, on all ranks, where a loss of any rank is not finite, naming the first."""
        if not self._pending:
            return
        losses = torch.stack(self._losses[-len(self._pending) :]).double().tolist()
        bad = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
        first = self._team.gather(torch.tensor([bad]), [1] * self._team.world).tolist()
        if min(first) < len(losses):
            text = self._message(bad, losses[bad]) if bad < len(losses) else ""
            raise SkelpipeError(self._team.send(text.encode(), first.index(min(first))).decode())
        self._pending.clear()

    def _message(self, number: int, loss: float) -> str:
        epoch, step, index = self._pending[number]
        where = f"the loss is {loss} in epoch {epoch}, step {step}"
        damaged = index[:0] if self._damaged is None else self._damaged(index)
        if len(damaged):
            held = f"the clips of {self._named(damaged)} hold values that are not finite"
            return f"{where}: {held}; `skelpipe verify` checks whether a file of the dataset was damaged"
        return f"{where}, on {self._named(index)}; {ADVICE}"

    def _named(self, index: Tensor) -> str:
        names = [self._ids[i] for i in index.tolist()]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more


def _damaged(loader: Loader, index: Tensor) -> Tensor:
    """Return those rows, int64[n], whose stored joints are not finite."""
    stream, rows = loader.stream, index.cpu()
    clips = torch.from_numpy(stream.dataset.reader(stream.subset, "joint").gather(rows.numpy()))
    return rows[~clips.flatten(1).isfinite().all(dim=1)]


ADVICE = "a lower --lr may help, and `skelpipe verify` checks the dataset"
