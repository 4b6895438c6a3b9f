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
from skelpipe.preprocess import CROSCLR
from skelpipe.train.evaluation.classifier_file import load_classifier, read_origin
from skelpipe.train.evaluation.embedding import frozen
from skelpipe.train.recipes.recipe import Recipe, load_recipe, with_overrides
from skelpipe.train.running.networks import (
    INITIALISERS,
    Networks,
    find_weights,
    initialised,
    load_networks,
    read_identity,
)
from skelpipe.train.running.provenance import Identity, dataset_name
from skelpipe.train.running.released_networks import PERSONS, default_view, embedder, read_released
from skelpipe.train.running.run_log import Console

__all__ = ["Subject", "Trained", "choose_subject", "default_folder"]


@dataclass(frozen=True)
class Trained:
    """What the clips were that a network was trained on."""

    views: tuple[str, ...]
    frames: int
    persons: int
    layout: str
    profile: str

    @classmethod
    def of_identity(cls, identity: Identity) -> "Trained":
        """Return the clips of a pre-training."""
        return cls(identity.streams, identity.frames, identity.persons, identity.layout, identity.profile)

    @classmethod
    def of_released(cls, loaded: ReleasedCheckpoint, view: str) -> "Trained":
        """Return the clips of a released file, those of `view` where it names none."""
        return cls(loaded.views or (view,), loaded.frames, PERSONS, loaded.layout.name, CROSCLR)

    def check(self, where: object, dataset: Dataset, view: str) -> None:
        """Raise UsageError with all `misfits` of what lies at `where`."""
        if found := self.misfits(dataset, view):
            raise UsageError(f"{where} does not fit {dataset.path}: {'; '.join(found)}")

    def misfits(self, dataset: Dataset, view: str) -> list[str]:
        """Return a text for each field in which this view of a dataset differs: no network is judged on that."""
        both = {
            "frames": (self.frames, dataset.shape[1]),
            "persons": (self.persons, dataset.shape[3]),
            "layout": (self.layout, dataset.layout.name),
            "preprocessing profile": (self.profile, dataset.profile),
        }
        found = [(name, was, now) for name, (was, now) in both.items() if was != now]
        if view not in self.views:
            found.insert(0, ("view", " and ".join(self.views), view))
        return [f"{name}: trained on {was}, asked for {now}" for name, was, now in found]


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
    recipe: Recipe | None = None
    method: str | None = None
    trained_on: str | None = None
    architecture: Mapping[str, Any] | None = None

    def pretraining(self) -> dict[str, Any]:
        """Return what an evaluation's recipe.yaml tells of pre-training, nothing where there was none."""
        return {} if self.recipe is None else {"pretraining": self.recipe.nested()}


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
        identity = _fitting(path, dataset, view)[0]
        chosen = with_overrides(identity.recipe, settings)
        return _random(chosen, dataset, view or identity.streams[0], features or "z", seed)
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


def _random(recipe: Recipe, dataset: Dataset, view: str, features: str, seed: int) -> Subject:
    networks = Networks.of(initialised(recipe, dataset.layout, seed, view), view)
    return Subject(
        networks.embedder(features),
        networks.encoder,
        _width(networks.encoder, dataset),
        f"random network, {INITIALISERS[recipe['init']]}, seed {seed}",
        view,
        features,
        method=recipe.method,
        architecture=recipe.nested()["encoder"],
    )


def _released(loaded: ReleasedCheckpoint, dataset: Dataset, view: str, features: str) -> Subject:
    Trained.of_released(loaded, view).check(loaded.path, dataset, view)
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
    view = view or origin.view
    trained = Trained((origin.view,), origin.frames, origin.persons, origin.layout, origin.profile)
    trained.check(path, dataset, view)
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


def _fitting(path: Path, dataset: Dataset, view: str | None) -> tuple[Identity, int]:
    """Return what the weights of a pre-training come from, and its epochs; see `choose_subject` for what fits."""
    identity, epoch = read_identity(path)
    Trained.of_identity(identity).check(path, dataset, view or identity.streams[0])
    return identity, epoch


def _pretrained(path: Path, dataset: Dataset, view: str | None, features: str) -> Subject:
    identity, epoch = _fitting(path, dataset, view)
    view = view or identity.streams[0]
    networks = load_networks(path, identity, dataset.layout, view)
    return Subject(
        networks.embedder(features),
        networks.encoder,
        _width(networks.encoder, dataset),
        f"{identity.recipe.method}, {epoch} epochs on {identity.dataset}",
        view,
        features,
        recipe=identity.recipe,
        method=identity.recipe.method,
        trained_on=identity.dataset,
        architecture=identity.recipe.nested()["encoder"],
    )


def _width(encoder: nn.Module, dataset: Dataset) -> int:
    """Return how many numbers an encoder makes of a clip of this dataset, by giving it one."""
    with frozen(encoder):
        return int(encoder(torch.zeros(1, *dataset.shape)).flatten(1).shape[1])
