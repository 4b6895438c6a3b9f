"""Classifiers of several streams as one network to run elsewhere: the weighted sum of their scores."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.train.evaluation.deployed_network import DeployedNetwork
from skelpipe.train.evaluation.weights_hash import WeightsHash

__all__ = ["WeightedScores", "fused_network"]

SAME = ("layout", "joints", "frames", "bodies", "channels", "profile", "classes")  # in all streams


class WeightedScores(nn.Module):
    """Joint clips [N,C,T,V,M] to the weighted sum of the scores [N,K] of several classifiers, as `fuse` has it."""

    def __init__(self, networks: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        used = [(network, weight) for network, weight in zip(networks, weights, strict=True) if weight]
        self.networks = nn.ModuleList(network for network, _ in used)
        self.weights = tuple(weight for _, weight in used)

    def forward(self, clips: Tensor) -> Tensor:
        scores = [weight * network(clips) for weight, network in zip(self.weights, self.networks, strict=True)]
        return torch.stack(scores).sum(dim=0)


def fused_network(
    networks: Sequence[DeployedNetwork], sources: Sequence[str], weights: Sequence[float]
) -> DeployedNetwork:
    """Return the classifiers of several streams as one, which takes joint clips as each of them does.

    `sources` are what messages call them. Raises UsageError for an encoder, and where they were trained on other
    clips or classes.
    """
    first = networks[0]
    for source, network in zip(sources, networks, strict=True):
        if network.facts["kind"] != "classifier":
            raise UsageError(
                f"{source}: is an encoder; several networks are exported together if each is a classifier: "
                "name the runs of linear or finetune"
            )
        if wrong := [key for key in SAME if network.facts[key] != first.facts[key]]:
            raise UsageError(f"{sources[0]} and {source} differ in {', '.join(wrong)}: they read other clips")
    module = WeightedScores([network.module for network in networks], weights).eval()
    facts: dict[str, Any] = {
        **first.facts,
        "views": [view for network in networks for view in network.facts["views"]],
        "weights": list(weights),
        "weights_sha256": WeightsHash.of(module).digest,
    }
    return replace(first, module=module, free_frames=all(network.free_frames for network in networks), facts=facts)
