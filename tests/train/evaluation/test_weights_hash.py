"""Proof that a network stayed as it was."""

import pytest
import torch
from torch import nn

from skelpipe.errors import SkelpipeError
from skelpipe.train.evaluation.weights_hash import WeightsHash


def test_the_weights_hash_covers_every_tensor() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    network.register_buffer("constant", torch.ones(2), persistent=False)
    weights_hash = WeightsHash.of(network)
    weights_hash.check(network)
    names = [name for name, _ in [*network.named_parameters(), *network.named_buffers()]]
    assert set(weights_hash.hashes) == set(names)
    for name in names:
        tensor = network.get_parameter(name) if "weight" in name or "bias" in name else network.get_buffer(name)
        before = tensor.detach().clone()
        with torch.no_grad():
            tensor.view(-1)[-1:].add_(1)
        with pytest.raises(SkelpipeError, match=f"in {name}$"):
            weights_hash.check(network)
        with torch.no_grad():
            tensor.copy_(before)
        weights_hash.check(network)
    network.register_buffer("late", torch.zeros(1))
    with pytest.raises(SkelpipeError, match="in late"):
        weights_hash.check(network)
