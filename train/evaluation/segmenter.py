"""A class for every frame: an encoder on the window around it, and a linear layer (docs/segmentation.md)."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.devices import Fetched, sent
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.loader.epoch_order import epoch_order
from skelpipe.models.encoders import draw_weights
from skelpipe.progress import progress
from skelpipe.train.evaluation.embedding import frozen
from skelpipe.train.evaluation.linear_head import linear_scores
from skelpipe.train.evaluation.segmenter_settings import SegmenterSettings
from skelpipe.train.evaluation.windows import Windows
from skelpipe.train.running.optimisers import fused_where_possible, uncompiled
from skelpipe.train.running.ranks import ranks
from skelpipe.train.running.schedule import learning_rate

__all__ = ["frame_scores", "train_segmenter"]

SCORED = 256  # windows scored at a time


def train_segmenter(
    encoder: nn.Module,
    width: int,
    classes: int,
    windows: Windows,
    settings: SegmenterSettings,
    device: torch.device,
    say: Callable[[dict[str, Any]], None] = lambda record: None,
) -> tuple[nn.Linear, list[dict[str, Any]]]:
    """Train a linear layer on an encoder's features [n, width] of windows; return it and one record per epoch.

    `classes` includes the background. The encoder is on `device` and is changed with `settings.finetune` only. The
    same arguments give bit-identical results on one device. Each of several ranks trains on all windows and gets
    rank 0's layer in the end; with `finetune` there must be one rank. Raises UsageError where there are more, and
    SkelpipeError when the loss is no longer finite.
    """
    if settings.finetune and ranks().world > 1:
        raise UsageError("--finetune trains on one device: start it without torchrun")
    log = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)  # the head's first weights; dropout, where the encoder is trained
        head = nn.Linear(width, classes)
        draw_weights(head, "paper")
        head.to(device)
        learned = [*head.parameters(), *(encoder.parameters() if settings.finetune else ())]
        how = fused_where_possible(learned)
        optimiser = uncompiled(torch.optim.SGD)(learned, lr=settings.lr, momentum=settings.momentum, **how)
        for epoch in range(1, settings.epochs + 1):
            rate = learning_rate(settings.lr, settings.milestones, epoch)
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = _train_epoch(head, optimiser, _batches(encoder, windows, settings, epoch, device))
            if not abs(loss) < float("inf"):
                raise SkelpipeError(f"the loss is {loss} in epoch {epoch}: a lower --lr may help")
            log.append({"epoch": epoch, "loss": loss, "lr": rate})
            say(log[-1])
    _take_from_main(head)
    return head, log


def _train_epoch(
    head: nn.Linear, optimiser: torch.optim.Optimizer, given: Iterator[tuple[Tensor, Tensor]]
) -> float:
    """Train on every batch of features and labels; return their mean loss."""
    losses = []
    for features, labels in given:
        loss = F.cross_entropy(head(features), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).double().mean())


@torch.no_grad()
def _take_from_main(head: nn.Linear) -> None:
    """Copy the weights of rank 0 to every rank: GPUs may differ in the last bit."""
    team = ranks()
    for parameter in head.parameters():
        if not team.is_main:
            parameter.zero_()
        team.sum(parameter.data)


def _batches(
    encoder: nn.Module, windows: Windows, settings: SegmenterSettings, epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features [n,D] and labels int64[n] of an epoch's windows, in an order of (seed, epoch)."""
    rows = windows.draw(settings.windows, settings.seed, epoch)
    rows = rows[epoch_order(settings.seed, epoch, [len(rows)])]
    if settings.finetune:
        encoder.train()
    for first in range(0, len(rows), settings.batch_size):
        chosen = rows[first : first + settings.batch_size]
        labels = sent(torch.from_numpy(windows.labels[chosen]), device)
        clips = sent(windows.clips(chosen), device)
        if settings.finetune:
            yield encoder(clips).flatten(1), labels
        else:
            with frozen(encoder):
                features = encoder(clips).flatten(1)
            yield features, labels


def frame_scores(
    encoder: nn.Module, head: nn.Linear, windows: Windows, device: torch.device, *, stride: int = 1, quiet: bool
) -> np.ndarray:
    """Return the scores of every frame, float32 [frames of all videos, K].

    With a `stride` the middle one of every `stride` frames stands for all of them. Each of several ranks scores a
    share of the batches, whole ones so that the result is that of one rank, and all ranks get all scores.
    """
    rows, which = windows.spread(stride)
    team = ranks()
    own = team.own(-(-len(rows) // SCORED))
    mine = rows[own.start * SCORED : own.stop * SCORED]
    fetched = Fetched()
    starts = range(0, len(mine), SCORED)
    with frozen(encoder):
        for first in progress(starts, "segmenting test", len(starts), quiet=quiet):
            features = encoder(sent(windows.clips(mine[first : first + SCORED]), device)).flatten(1)
            fetched.add(linear_scores(head.weight, head.bias, features))
    scores = torch.cat([torch.empty(0, head.out_features), *fetched.all()])
    whole = team.gather(scores).numpy()
    return whole if stride == 1 else whole[which]
