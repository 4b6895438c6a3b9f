"""What is evaluated: a checkpoint, a released checkpoint, a random network or raw coordinates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.settings import nested
from skelpipe.train.evaluation.classifier_file import read_origin
from skelpipe.train.evaluation.embedding import frozen
from skelpipe.train.evaluation.fusion import fused_view
from skelpipe.train.evaluation.region import region_features
from skelpipe.train.evaluation.trained_weights import PRETRAINED, TrainedNetwork, find_trained
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import FinetuneRecipe, PretrainRecipe
from skelpipe.train.running.networks import INITIALISERS, Networks, find_weights, initialised, read_provenance
from skelpipe.train.running.released_networks import read_released
from skelpipe.train.running.script_options import refuse_contradictions
from skelpipe.views import positions

__all__ = ["EvaluatedNetwork", "NetworkOptions", "choose_network"]


class Coordinates(nn.Module):
    """The features of `--baseline raw`: the positions of clips [N,C,T,V,M] as they are, [N,3*T*V*M]; no scores."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return positions(x).flatten(1)


@dataclass(frozen=True)
class EvaluatedNetwork:
    """Maps from clips [N,C,T,V,M] to features, the view they read and how to call them.

    `embedder` gives the features asked for, `encoder` the pooled ones h [N,`feature_dim`]; they share weights.
    `recipe` is there only where that recipe alone trained the network: the papers' figures then apply. `method` is
    the method where it is known, also of random networks and released checkpoints; `trained_on` is the dataset
    (`ntu60-xsub`) where a checkpoint names it; `architecture` is the section from which `build_encoder` makes the
    encoder. `region` is the region of the clips that the features are of, where it is not the whole: see
    `skelpipe.train.evaluation.region`. `streams` are the views whose features are joined, where there are several;
    `view` is then joint: see `skelpipe.train.evaluation.joined_streams`.
    """

    embedder: nn.Module
    encoder: nn.Module
    feature_dim: int
    name: str
    view: str
    features: str
    recipe: PretrainRecipe | FinetuneRecipe | None = None
    method: str | None = None
    trained_on: str | None = None
    architecture: Mapping[str, Any] | None = None
    region: str | None = None
    streams: tuple[str, ...] = ()

    @property
    def stream(self) -> str:
        """What results call the view: a view, or the papers' name of several."""
        return fused_view(self.streams) if self.streams else self.view

    def pretraining(self) -> dict[str, Any]:
        """Return what an evaluation's recipe.yaml says of pre-training; nothing where there was none."""
        return {} if self.recipe is None else {"pretraining": self.recipe.content()}


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Which network is evaluated; each field is an option of the scripts.

    `network` and `network_settings` are the recipe of a random network and values that override it. `features`
    None means z, or h where a checkpoint has no projection head. With a `region` the features are those of an
    ActCLR run's actionlets, or of the rest, and `region_of` says how they are cut out: see `region_features`.
    """

    checkpoint: str | None = None
    baseline: str | None = None
    network: str | None = None
    network_settings: tuple[str, ...] = ()
    view: str | None = None
    features: str | None = None
    seed: int = 0
    region: str | None = None
    region_of: str = "features"


def choose_network(dataset: Dataset, options: NetworkOptions, say: Callable[[str], None]) -> EvaluatedNetwork:
    """Return the network that the options name.

    Raises UsageError where options contradict each other, and one that names every field in which a checkpoint
    does not fit the dataset: view, frames, bodies, layout, preprocessing profile. Dataset, classes and split may
    differ: that is transfer.
    """
    checkpoint, baseline, view, features = options.checkpoint, options.baseline, options.view, options.features
    refuse_contradictions(checkpoint, baseline, options.network, options.network_settings, options.region)
    if baseline == "raw":
        flat = Coordinates()
        return EvaluatedNetwork(flat, flat, _width(flat, dataset), "raw coordinates", view or "joint", "raw")
    if checkpoint is None:
        recipe = with_overrides(
            load_recipe(options.network or "skeletonclr"), options.network_settings, by="--network-set"
        )
        return _random(recipe, dataset, view or "joint", features or "z", options.seed)
    if baseline == "random":
        path = find_weights(checkpoint, view)
        if read_released(path) is not None or read_origin(path) is not None:
            raise UsageError(f"{path}: has no recipe of pre-training: pass --baseline random --network NAME alone")
        provenance, _ = read_provenance(path)
        provenance.check(path, dataset, view or provenance.views[0])
        recipe = with_overrides(provenance.pretraining, options.network_settings, by="--network-set")
        return _random(recipe, dataset, view or provenance.views[0], features or "z", options.seed)
    weights = find_trained(checkpoint, view, features, say)
    if options.region is not None and weights.kind != PRETRAINED:
        raise UsageError(f"{weights.path}: --region needs a run of actclr or one of its checkpoints")
    weights.provenance.check(weights.path, dataset, weights.view)
    network = _trained(weights.load(dataset.layout), dataset)
    return network if options.region is None else _of_region(network, weights.path, checkpoint, dataset, options)


def _trained(network: TrainedNetwork, dataset: Dataset) -> EvaluatedNetwork:
    return EvaluatedNetwork(
        network.embedder,
        network.encoder,
        _width(network.encoder, dataset),
        network.name,
        network.view,
        network.features,
        recipe=network.recipe,
        method=network.method,
        trained_on=network.trained_on,
        architecture=network.architecture,
    )


def _random(recipe: PretrainRecipe, dataset: Dataset, view: str, features: str, seed: int) -> EvaluatedNetwork:
    method = initialised(recipe, dataset.layout, seed, view, channels=len(dataset.channels))
    networks = Networks.of(method, view)
    return EvaluatedNetwork(
        networks.embedder(features),
        networks.encoder,
        _width(networks.encoder, dataset),
        f"random network, {INITIALISERS[recipe.init]}, seed {seed}",
        view,
        features,
        method=recipe.method,
        architecture=nested(recipe.encoder),
    )


def _of_region(
    network: EvaluatedNetwork, path: Path, source: str, dataset: Dataset, options: NetworkOptions
) -> EvaluatedNetwork:
    """Return a network whose features are those of a region of the clips."""
    assert options.region is not None
    found = region_features(
        source,
        read_provenance(path)[0],
        dataset,
        network.view,
        region=options.region,
        of=options.region_of,
        head=network.features == "z",
    )
    region = f"{options.region}, of {options.region_of}"
    return replace(network, embedder=found, region=region, name=f"{network.name}, {region}", architecture=None)


def _width(encoder: nn.Module, dataset: Dataset) -> int:
    """Return the number of features per clip of this dataset, found with one clip of zeros."""
    with frozen(encoder):
        return int(encoder(torch.zeros(1, *dataset.shape)).flatten(1).shape[1])
