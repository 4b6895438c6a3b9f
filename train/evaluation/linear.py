"""Linear evaluation: a linear classifier on the features of a frozen network, and proof that it stayed frozen."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError
from skelpipe.loader.sampling import balanced
from skelpipe.train.evaluation.augmented_features import FeatureLoader
from skelpipe.train.evaluation.beginning import Evaluation
from skelpipe.train.evaluation.embedding import Embedded, embed
from skelpipe.train.evaluation.linear_head import LinearHead, batches, linear_scores, one_thread
from skelpipe.train.evaluation.metrics import topk_accuracy
from skelpipe.train.evaluation.standard_features import StandardFeatures
from skelpipe.train.evaluation.weights_hash import WeightsHash
from skelpipe.train.recipes.schema import LinearRecipe
from skelpipe.train.running.schedule import rate_at

__all__ = ["TrainedClassifier", "train_classifier"]

IN_MEMORY = 1 << 30  # bytes of features that are held; raw coordinates of a large dataset are more


@dataclass(frozen=True)
class TrainedClassifier:
    """A linear classifier and its results on the test clips.

    `scores` float32[N,K] are those of the test clips after the last epoch, `test` their features, `train` the
    features of the training clips where they were held in memory, both as the network gives them, `best` the best
    top-1 accuracy and its epoch,
    `log` one record per epoch, `weights_hash` that of the frozen network, `layer` the classifier: float32 weight
    [K,D] and bias [K] on the CPU.
    """

    scores: np.ndarray
    test: Embedded
    train: Embedded | None
    best: dict[str, float]
    log: list[dict[str, Any]]
    weights_hash: WeightsHash
    layer: nn.Linear


EpochBatches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]  # an epoch's batches of features and labels


def train_classifier(evaluation: Evaluation, recipe: LinearRecipe, *, augment: bool) -> TrainedClassifier:
    """Train a linear classifier on a frozen network's features and test it at the epochs that the recipe names.

    With `augment` training clips are cropped and sheared afresh every epoch. Every rank trains the same classifier
    on the same batches; the ranks share the embedding. Raises SkelpipeError where features or losses are not
    finite, and where a tensor of the network changed meanwhile.
    """
    dataset, device, console = evaluation.dataset, evaluation.device, evaluation.console
    network, seed = evaluation.network.embedder, evaluation.options.seed
    weights_hash = WeightsHash.of(network)
    test = embed(network, dataset, "test", evaluation.network.view, device=device, quiet=False)
    train, epoch_batches, standard, steps = _training_features(evaluation, recipe, augment)
    width = test.features.shape[1]
    classes, labels = len(dataset.classes), test.labels.numpy()
    optimiser = recipe.optimiser
    heads = len(evaluation.network.streams) or 1
    head = LinearHead(width, classes, optimiser, seed=seed, device=device, heads=heads)
    queries = test.features.to(device)
    queries = queries if standard is None else standard(queries)
    epochs, scores = recipe.epochs, np.empty((0, classes), np.float32)
    best: dict[str, float] = {"top1": -1.0, "epoch": 0}
    log: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        rates = [rate_at(optimiser, epoch, epochs, step, steps) for step in range(steps)]
        with one_thread() if train is not None else nullcontext():
            loss = head.train(epoch_batches(epoch), rates.__getitem__)
        record: dict[str, Any] = {"epoch": epoch, "lr": rates[-1], "loss": loss}
        if epoch % recipe.test_every == 0 or epoch == epochs:
            scores = linear_scores(head.weight, head.bias, queries).cpu().numpy()
            _check_finite(scores, test.ids)
            record |= {f"top{k}": topk_accuracy(scores, labels, k) for k in (1, 5)}
            if record["top1"] > best["top1"]:
                best = {"top1": record["top1"], "epoch": epoch}
            line = f"epoch {epoch}/{epochs}: loss {loss:.4f}, lr {rates[-1]:g}, top1 {record['top1']:.2f} %"
            console.say(line) if epoch == epochs else console.working(line)
        log.append(record)
    weights_hash.check(network)
    layer = _layer(head) if standard is None else standard.undone(_layer(head))
    return TrainedClassifier(scores, test, train, best, log, weights_hash, layer)


def _training_features(
    evaluation: Evaluation, recipe: LinearRecipe, augment: bool
) -> tuple[Embedded | None, EpochBatches, StandardFeatures | None, int]:
    """Return the training clips' features where they are held in memory; an epoch's batches, what made their
    features comparable, and their number.
    """
    dataset, device, say = evaluation.dataset, evaluation.device, evaluation.console.say
    network, view, seed = evaluation.network.embedder, evaluation.network.view, evaluation.options.seed
    count, size = dataset.count("train"), recipe.batch_size
    if size > count:
        say(f"batch_size {size} lowered to {count}: the train subset has no more clips")
        size = count
    standard = None
    if not augment and 4 * count * evaluation.network.feature_dim <= IN_MEMORY:
        train = embed(network, dataset, "train", view, device=device, quiet=False)
        features, labels = train.features.to(device), train.labels.to(device)
        if recipe.standardise:
            standard = StandardFeatures.of([features])
            features = standard(features)
        sampling = balanced(train.labels.numpy()) if recipe.balanced else None
        return train, lambda epoch: batches(features, labels, size, seed, epoch, sampling), standard, count // size
    if not augment:
        say("the features are too many to be held in memory: clips are read anew every epoch")

    def read(*, shuffle: bool) -> FeatureLoader:
        return FeatureLoader(
            *(network, dataset, "train", view, size),
            device=device,
            augment=augment,
            seed=seed,
            shuffle=shuffle,
            balanced=recipe.balanced and shuffle,
        )

    loader = read(shuffle=True)
    if recipe.standardise:
        standard = StandardFeatures.of(features for features, _, _ in read(shuffle=False).epoch())

    def epoch_batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for features, labels, _ in loader.epoch():
            yield (features if standard is None else standard(features)), labels

    return None, epoch_batches, standard, len(loader)


def _layer(head: LinearHead) -> nn.Linear:
    classes, width = head.weight.shape
    layer = nn.Linear(width, classes, device="meta")  # no weights are drawn
    own = {"weight": head.weight, "bias": head.bias}
    layer.load_state_dict({name: value.cpu().clone() for name, value in own.items()}, assign=True)
    return layer


def _check_finite(scores: np.ndarray, ids: list[str]) -> None:
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        raise SkelpipeError(
            f"the scores of {bad.sum()} test clips are not finite, the first is {ids[bad.argmax()]}: "
            f"a lower learning rate may help"
        )
