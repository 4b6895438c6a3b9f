"""The features of several streams side by side, for classifiers that learn together, as CrosSCLR's do.

The released code of CrosSCLR trains one linear classifier per stream, all at once, on the mean of their scores
(divergence `crosclr-heads`). That mean is a linear function of the features of all streams, each divided by their
number: so one linear layer on them does the same.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from skelpipe.skeleton import Layout
from skelpipe.train.evaluation.evaluated_network import EvaluatedNetwork
from skelpipe.views import derive

__all__ = ["JoinedStreams", "join_streams"]


class JoinedStreams(nn.Module):
    """Maps clips of joints [N,C,T,V,M] to the features [N,S*D] of S streams, divided by S."""

    def __init__(self, networks: Sequence[nn.Module], views: Sequence[str], layout: Layout) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self._views, self._layout = tuple(views), layout

    def forward(self, x: Tensor) -> Tensor:
        pairs = zip(self.networks, self._views, strict=True)
        parts = [network(derive(x, view, self._layout)).flatten(1) for network, view in pairs]
        return torch.cat(parts, dim=1) / len(parts)


def join_streams(networks: Sequence[EvaluatedNetwork], layout: Layout) -> EvaluatedNetwork:
    """Return the networks of several views as one that reads joints; its `encoder` is what gives the features."""
    views = tuple(network.view for network in networks)
    joined = JoinedStreams([network.embedder for network in networks], views, layout)
    names = dict.fromkeys(network.name for network in networks)
    return replace(
        networks[0],
        embedder=joined,
        encoder=joined,
        feature_dim=sum(network.feature_dim for network in networks),
        name=" + ".join(names),
        view="joint",
        streams=views,
    )
