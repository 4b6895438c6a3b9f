"""What training with labels starts from: a checkpoint's encoder or a new one, with a new linear layer."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from skelpipe.augment.chain import Chain
from skelpipe.augment.named_chains import CLIP
from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.models.encoders import build_encoder
from skelpipe.settings import flat, nested
from skelpipe.skeleton import Layout
from skelpipe.train.evaluation.evaluated_network import EvaluatedNetwork, NetworkOptions, choose_network
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import FinetuneRecipe
from skelpipe.train.running.provenance import dataset_name
from skelpipe.train.running.run_folder import run_name
from skelpipe.train.running.run_log import Console
from skelpipe.train.training.classifier import Classifier

__all__ = ["Request", "Start", "choose_start"]


@dataclass(frozen=True)
class Request:
    """Which network, and how it is to be trained; None where a default or the recipe decides."""

    checkpoint: str | None = None
    recipe: str | None = None
    labels: float = 1.0
    view: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    settings: tuple[str, ...] = ()
    balanced: bool = False
    seed: int = 0

    def load(self, default: str) -> tuple[str, FinetuneRecipe]:
        """Return the recipe's name and the recipe, overrides applied."""
        name = self.recipe or default
        recipe = with_overrides(
            load_recipe(name, FinetuneRecipe),
            self.settings,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            balanced=self.balanced or None,
        )
        return Path(name).stem, recipe

    @property
    def share(self) -> str:
        """What is added to the name of the protocol where not all labels are used, such as `-10`."""
        return "" if self.labels == 1 else f"-{100 * self.labels:g}"


@dataclass(frozen=True)
class Start:
    """What training starts from: `network`, whose encoder is in `classifier`, and the recipe to train it by.

    `name` is for the run's folder; `protocol` is what the outcome calls the training, such as `semi-10`.
    """

    network: EvaluatedNetwork
    classifier: Classifier
    recipe_name: str
    recipe: FinetuneRecipe
    name: str
    protocol: str

    @property
    def view(self) -> str:
        """The view that is read."""
        return self.network.view

    @property
    def from_scratch(self) -> bool:
        return self.protocol.startswith(SUPERVISED)


def choose_start(dataset: Dataset, request: Request, console: Console) -> Start:
    """Return the network that a request asks for, with a new layer with one score per class, and its recipe.

    Raises UsageError for options that contradict each other and, field by field, where a checkpoint does not fit
    the dataset (view, frames, bodies, layout, profile) or the `encoder.*` settings.
    """
    if request.checkpoint is None:
        return _from_scratch(dataset, request)
    return _from_checkpoint(dataset, request, request.checkpoint, console)


def _from_scratch(dataset: Dataset, request: Request) -> Start:
    name, recipe = request.load("supervised")
    if recipe.encoder is None:
        raise UsageError(
            f"recipe {name} describes no network to train from scratch: give --checkpoint, or a recipe with an "
            "encoder, such as --recipe supervised"
        )
    torch.manual_seed(request.seed)
    encoder = build_encoder(recipe.encoder, dataset.layout, recipe.init, len(dataset.channels))
    network = EvaluatedNetwork(
        encoder,
        encoder,
        encoder.feature_dim,
        f"{recipe.encoder.name} trained from scratch with labels",
        request.view or "joint",
        "h",
        recipe=recipe,
        trained_on=dataset_name(dataset),
        architecture=nested(recipe.encoder),
    )
    classifier = _classifier(network, dataset, recipe)
    return Start(network, classifier, name, recipe, name=name, protocol=f"{SUPERVISED}{request.share}")


def _from_checkpoint(dataset: Dataset, request: Request, checkpoint: str, console: Console) -> Start:
    name, recipe = request.load("finetune" if request.labels == 1 else "finetune-semi")
    options = NetworkOptions(checkpoint=checkpoint, view=request.view, features="h", seed=request.seed)
    network = choose_network(dataset, options, console.say)
    _check_encoder(network, recipe, request)
    recipe = replace(recipe, encoder=None)
    torch.manual_seed(request.seed)
    classifier = _classifier(network, dataset, recipe)
    protocol = f"semi{request.share}" if request.share else "finetune"
    return Start(network, classifier, name, recipe, name=run_name(checkpoint), protocol=protocol)


def _classifier(network: EvaluatedNetwork, dataset: Dataset, recipe: FinetuneRecipe) -> Classifier:
    return Classifier(
        network.encoder.requires_grad_(True),
        network.feature_dim,
        len(dataset.classes),
        _augmentation(recipe, dataset.layout),
        init=recipe.init,
        fixed_modes=recipe.modes == "eval",
    )


def _augmentation(recipe: FinetuneRecipe, layout: Layout) -> Chain | None:
    ops = recipe.operators()[CLIP]
    return Chain([op.op(layout) for op in ops]) if ops else None


def _check_encoder(network: EvaluatedNetwork, recipe: FinetuneRecipe, request: Request) -> None:
    """Raise UsageError where --set asks for an encoder that is not the checkpoint's."""
    keys = [text.partition("=")[0].strip() for text in request.settings]
    asked = flat(recipe.content())
    has = {f"{ENCODER}{key}": value for key, value in (network.architecture or {}).items()}
    others = [
        f"{key}: trained with {has.get(key, 'no such setting')}, asked for {asked[key]}"
        for key in keys
        if key.startswith(ENCODER) and has.get(key) != asked[key]
    ]
    if others:
        raise UsageError(f"{request.checkpoint} brings its own encoder: {'; '.join(others)}")


ENCODER = "encoder."
SUPERVISED = "supervised"
