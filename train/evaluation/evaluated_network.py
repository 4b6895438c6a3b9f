"""What an evaluation judges: a checkpoint, released weights, a random network or raw coordinates."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.models.released.checkpoint import ReleasedCheckpoint
from skelpipe.models.settings import nested
from skelpipe.train.evaluation.classifier_file import load_classifier, read_origin
from skelpipe.train.evaluation.embedding import frozen
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import FinetuneRecipe, PretrainRecipe
from skelpipe.train.running.networks import (
    INITIALISERS,
    Networks,
    find_weights,
    initialised,
    load_networks,
    read_provenance,
)
from skelpipe.train.running.provenance import Provenance, dataset_name
from skelpipe.train.running.released_networks import default_view, embedder, read_released, released_provenance
from skelpipe.train.running.run_log import Console

__all__ = ["Subject", "choose_subject", "default_folder"]


@dataclass(frozen=True)
class Subject:
    """What is judged: maps from clips [N,C,T,V,M] to features, the view they read and how to call it.

    `network` gives the features asked for, `encoder` the pooled ones h [N,`feature_dim`], with shared weights.
    `recipe` is there when the network came out of pre-training: its paper's figures then have a meaning;
    `method` where a method is known, also for random networks and released files; `trained_on` is the dataset
    (`ntu60-xsub`) where a checkpoint names it; `architecture` is what `build_encoder` makes the encoder of.
    """

    network: nn.Module
    encoder: nn.Module
    feature_dim: int
    name: str
    view: str
    features: str
    recipe: PretrainRecipe | FinetuneRecipe | None = None
    method: str | None = None
    trained_on: str | None = None
    architecture: Mapping[str, Any] | None = None

    def pretraining(self) -> dict[str, Any]:
        """Return what an evaluation's recipe.yaml tells of pre-training, nothing where there was none."""
        return {} if self.recipe is None else {"pretraining": self.recipe.content()}


def choose_subject(
    dataset: Dataset,
    *,
    checkpoint: str | None,
    baseline: str | None,
    recipe: str | None,
    settings: tuple[str, ...],
    view: str | None,
    features: str | None,
    seed: int,
    console: Console,
) -> Subject:
    """Return what the options ask to judge; the parameters are the options of `train/knn.py`.

    `features` None means z, or h where a checkpoint has no projection head, which is said.

    Raises UsageError where options contradict each other, and one that names every field in which a checkpoint
    does not fit the dataset: view, frames, persons, layout, preprocessing profile. Dataset, classes and split may
    differ: that is transfer.
    """
    if settings and baseline != "random":
        raise UsageError("--set changes the recipe of a random network: it needs --baseline random")
    if baseline == "raw":
        if checkpoint or recipe:
            raise UsageError("--baseline raw judges coordinates: it takes neither --checkpoint nor --recipe")
        flat = nn.Flatten()
        return Subject(flat, flat, _width(flat, dataset), "raw coordinates", view or "joint", "raw")
    if checkpoint is None:
        if baseline is None:
            raise UsageError("say what to judge: --checkpoint RUN, --baseline random or --baseline raw")
        chosen = with_overrides(load_recipe(recipe or "skeletonclr"), settings)
        return _random(chosen, dataset, view or "joint", features or "z", seed)
    if recipe is not None:
        raise UsageError("--recipe describes a random network; a checkpoint brings its own")
    path = find_weights(checkpoint, view)
    released = read_released(path)
    if baseline == "random":
        if released is not None or read_origin(path) is not None:
            raise UsageError(f"{path}: has no recipe of pre-training: pass --baseline random --recipe NAME alone")
        provenance = _fitting(path, dataset, view)[0]
        chosen = with_overrides(provenance.pretraining, settings)
        return _random(chosen, dataset, view or provenance.views[0], features or "z", seed)
    labelled = read_origin(path) is not None
    if features is None and (labelled or (released is not None and released.branch().head is None)):
        console.say(f"{path} has no projection head: its pooled features h are judged")
        features = "h"
    features = features or "z"
    if released is not None:
        return _released(released, dataset, view or default_view(released, console.say), features)
    if labelled:
        return _labelled(path, dataset, view, features)
    return _pretrained(path, dataset, view, features)


def default_folder(
    protocol: str, dataset: Dataset, view: str, checkpoint: str | None, baseline: str | None, more: str = ""
) -> Path:
    """Return `runs/PROTOCOL-DATASET-VIEW-NAME`, NAME being the run or file judged, and the baseline."""
    name = "-".join(filter(None, (checkpoint and Path(checkpoint).stem, baseline)))
    return Path("runs") / f"{protocol}-{dataset_name(dataset)}-{view}-{name}{more}"


def _random(recipe: PretrainRecipe, dataset: Dataset, view: str, features: str, seed: int) -> Subject:
    networks = Networks.of(initialised(recipe, dataset.layout, seed, view), view)
    return Subject(
        networks.embedder(features),
        networks.encoder,
        _width(networks.encoder, dataset),
        f"random network, {INITIALISERS[recipe.init]}, seed {seed}",
        view,
        features,
        method=recipe.method,
        architecture=nested(recipe.encoder),
    )


def _released(loaded: ReleasedCheckpoint, dataset: Dataset, view: str, features: str) -> Subject:
    released_provenance(loaded, view).check(loaded.path, dataset, view)
    encoder = loaded.branch(view).encoder
    settings = {"graph": loaded.graph, "width": loaded.width, "out_channels": encoder.feature_dim}
    return Subject(
        embedder(loaded, view, features),
        encoder,
        _width(encoder, dataset),
        f"{loaded.method} as released ({loaded.path.name})",
        view,
        features,
        method=loaded.method,
        architecture={"name": "stgcn", **settings},
    )


def _labelled(path: Path, dataset: Dataset, view: str | None, features: str) -> Subject:
    """Return the network under a classifier that was trained with labels."""
    origin = read_origin(path)
    assert origin is not None
    view = view or origin.provenance.view
    origin.provenance.check(path, dataset, view)
    if features == "z":
        raise UsageError(f"{path}: was trained with labels and has no projection head: pass --features h")
    encoder = load_classifier(path, origin, dataset.layout).encoder
    return Subject(
        encoder,
        encoder,
        _width(encoder, dataset),
        origin.what,
        view,
        features,
        method=origin.method or None,
        trained_on=origin.trained_on or None,
        architecture=origin.encoder,
    )


def _fitting(path: Path, dataset: Dataset, view: str | None) -> tuple[Provenance, int]:
    """Return what the weights of a pre-training come from, and its epochs; see `choose_subject` for what fits."""
    provenance, epoch = read_provenance(path)
    provenance.check(path, dataset, view or provenance.views[0])
    return provenance, epoch


def _pretrained(path: Path, dataset: Dataset, view: str | None, features: str) -> Subject:
    provenance, epoch = _fitting(path, dataset, view)
    view, recipe = view or provenance.views[0], provenance.pretraining
    networks = load_networks(path, provenance, dataset.layout, view)
    return Subject(
        networks.embedder(features),
        networks.encoder,
        _width(networks.encoder, dataset),
        f"{recipe.method}, {epoch} epochs on {provenance.clips.dataset}",
        view,
        features,
        recipe=recipe,
        method=recipe.method,
        trained_on=provenance.clips.dataset,
        architecture=nested(recipe.encoder),
    )


def _width(encoder: nn.Module, dataset: Dataset) -> int:
    """Return how many numbers an encoder makes of a clip of this dataset, by giving it one."""
    with frozen(encoder):
        return int(encoder(torch.zeros(1, *dataset.shape)).flatten(1).shape[1])
