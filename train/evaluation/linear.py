"""Linear evaluation at work: features of a frozen network, a classifier on them, proof that it stayed frozen."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
from skelpipe.train.evaluation.augmented_features import FeatureLoader
from skelpipe.train.evaluation.embedding import Embedded, embed
from skelpipe.train.evaluation.evaluated_network import Subject
from skelpipe.train.evaluation.linear_head import LinearHead, batches, linear_scores, one_thread
from skelpipe.train.evaluation.metrics import topk_accuracy
from skelpipe.train.evaluation.weights_hash import WeightsHash
from skelpipe.train.recipes.schema import LinearRecipe
from skelpipe.train.running.loop import learning_rate
from skelpipe.train.running.run_log import Console

__all__ = ["Evaluated", "Job", "train_classifier"]

CACHED = 1 << 30  # bytes of features that are held in memory; raw coordinates of a large dataset are more


@dataclass(frozen=True)
class Job:
    """What is evaluated, on what and how."""

    dataset: Dataset
    subject: Subject
    recipe: LinearRecipe
    device: torch.device
    seed: int = 0
    augment: bool = False


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation came to.

    `scores` float32[N,K] are those of the test clips after the last epoch, `tested` their features, `cached`
    those of the training clips where they were held, `best` the best top-1 accuracy and its epoch, `log` a record
    an epoch, `seal` that of the network, `layer` the classifier: float32 weight [K,D] and bias [K] on the CPU.
    """

    scores: np.ndarray
    tested: Embedded
    cached: Embedded | None
    best: dict[str, float]
    log: list[dict[str, Any]]
    seal: WeightsHash
    layer: nn.Linear


Epoch = Callable[[int], Iterable[tuple[Tensor, Tensor]]]  # an epoch's batches of features and labels


def train_classifier(job: Job, console: Console) -> Evaluated:
    """Train a linear classifier on a frozen network's features and test it as the recipe says.

    Every rank trains the same classifier on the same batches; what is shared is the embedding. Raises
    SkelpipeError where features or losses are not finite, and where a tensor of the network changed meanwhile.
    """
    dataset, subject, recipe = job.dataset, job.subject, job.recipe
    network = subject.network.to(job.device)
    seal = WeightsHash.of(network)
    tested = embed(network, dataset, "test", subject.view, device=job.device, quiet=False)
    cached, given = _epochs(job, console)
    width = tested.features.shape[1]
    classes, labels = len(dataset.classes), tested.labels.numpy()
    optimiser = recipe.optimiser
    rates = (optimiser.momentum, optimiser.weight_decay)
    head = LinearHead(width, classes, *rates, seed=job.seed, device=job.device)
    queries = tested.features.to(job.device)
    epochs, scores = recipe.epochs, np.empty((0, classes), np.float32)
    best: dict[str, float] = {"top1": -1.0, "epoch": 0}
    log: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        rate = learning_rate(optimiser.lr, optimiser.milestones, epoch)
        with one_thread() if cached is not None else nullcontext():
            loss = head.train(given(epoch), rate)
        record: dict[str, Any] = {"epoch": epoch, "lr": rate, "loss": loss}
        if epoch % recipe.test_every == 0 or epoch == epochs:
            scores = linear_scores(head.weight, head.bias, queries).cpu().numpy()
            _check_finite(scores, tested.ids)
            record |= {f"top{k}": topk_accuracy(scores, labels, k) for k in (1, 5)}
            if record["top1"] > best["top1"]:
                best = {"top1": record["top1"], "epoch": epoch}
            line = f"epoch {epoch}/{epochs}: loss {record['loss']:.4f}, lr {rate:g}, top1 {record['top1']:.2f} %"
            console.say(line) if epoch == epochs else console.working(line)
        log.append(record)
    seal.check(network)
    return Evaluated(scores, tested, cached, best, log, seal, _layer(head))


def _epochs(job: Job, console: Console) -> tuple[Embedded | None, Epoch]:
    """Return the training clips' features where they are held in memory, and what gives an epoch's batches."""
    dataset, subject, size = job.dataset, job.subject, job.recipe.batch_size
    count = dataset.count("train")
    if size > count:
        console.say(f"batch_size {size} lowered to {count}: the training split has no more clips")
        size = count
    network, view, seed = subject.network, subject.view, job.seed
    if not job.augment and 4 * count * subject.feature_dim <= CACHED:
        cached = embed(network, dataset, "train", view, device=job.device, quiet=False)
        features, labels = cached.features.to(job.device), cached.labels.to(job.device)
        return cached, lambda epoch: batches(features, labels, size, seed, epoch)
    if not job.augment:
        console.say("the features are too many to be held in memory: clips are read anew every epoch")
    loader = FeatureLoader(
        network, dataset, "train", view, size, device=job.device, augment=job.augment, seed=seed
    )
    return None, lambda epoch: ((features, labels) for features, labels, _ in loader.epoch())


def _layer(head: LinearHead) -> nn.Linear:
    classes, width = head.weight.shape
    layer = nn.Linear(width, classes, device="meta").to_empty(device="cpu")
    layer.load_state_dict({"weight": head.weight, "bias": head.bias})
    return layer


def _check_finite(scores: np.ndarray, ids: list[str]) -> None:
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        raise SkelpipeError(
            f"the scores of {bad.sum()} test clips are not finite, of {ids[bad.argmax()]} to begin with: "
            f"a lower learning rate may help"
        )
