"""From settings to networks: what is built and what is refused."""

from typing import Any

import pytest
import torch

from skelpipe.errors import UsageError
from skelpipe.models import build_encoder, build_method
from skelpipe.models.graph import adjacency
from skelpipe.models.skeletonclr import SkeletonCLR
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
RECIPE: dict[str, Any] = {
    "method": "skeletonclr",
    "encoder": {"name": "stgcn", "graph": "agcn", "width": 4, "out_channels": 24, "dropout": 0.25},
    "head": {"hidden": 20, "dim": 12},
    "queue": 40,
    "momentum": 0.99,
    "temperature": 0.2,
}


def test_recipe_reaches_every_part() -> None:
    built = build_method(RECIPE, KINECT)
    assert isinstance(built, SkeletonCLR)
    moco = built.moco
    assert built.temperature == 0.2
    assert moco.momentum == 0.99
    assert moco.queue.shape == (40, 12)
    assert moco.encoder.feature_dim == 24
    assert torch.equal(moco.encoder.adjacency, adjacency(KINECT, "agcn"))
    assert moco.encoder.blocks[0].spatial.maps.weight.shape == (12, 3)
    assert moco.encoder.blocks[5].dropout.p == 0.25
    assert [tuple(p.shape) for p in moco.head.parameters()] == [(20, 24), (20,), (12, 20), (12,)]


def test_initialised_then_copied() -> None:
    moco = build_method(RECIPE, KINECT).moco
    weight = moco.encoder.blocks[9].temporal.weight
    assert abs(float(weight.detach().std()) - 0.02) < 0.002
    assert not moco.encoder.blocks[9].temporal.bias.any()
    assert abs(float(moco.head[0].weight.detach().std()) - 0.02) < 0.003
    assert torch.equal(weight, moco.key_encoder.blocks[9].temporal.weight)
    assert torch.equal(moco.head[0].weight, moco.key_head[0].weight)


def test_default_initialisation_is_pytorchs() -> None:
    moco = build_method({**RECIPE, "init": "default"}, KINECT).moco
    weight = moco.encoder.blocks[9].temporal.weight.detach()  # uniform within 1 / sqrt(fan in)
    bound = (24 * 9) ** -0.5
    assert 0.95 * bound < float(weight.abs().max()) <= bound
    assert torch.equal(weight, moco.key_encoder.blocks[9].temporal.weight)
    assert moco.head[0].bias.any()


def test_defaults_are_the_papers() -> None:
    encoder = build_encoder({}, KINECT)
    assert isinstance(encoder, STGCN)
    classifier = 256 * 60 + 60
    assert round((sum(p.numel() for p in encoder.parameters()) + classifier) / 1e6, 4) == 0.8368
    assert [block.dropout.p for block in encoder.blocks][1:] == [0.5] * 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "simclr"}, "method is 'simclr'; .*known: skeletonclr"),
        ({"method": None}, "the key 'method' is missing"),
        ({"encoder": {"name": "resnet"}}, "encoder.name is 'resnet'; known: stgcn"),
        ({"encoder": "stgcn"}, "encoder must be a section"),
        ({"init": "zeros"}, "init is 'zeros'; known: paper, default"),
        ({"encoder": {"name": "stgcn", "widht": 4}}, "unknown key 'encoder.widht'; did you mean 'encoder.width'"),
        ({"encoder": {"name": "stgcn", "width": 0}}, "encoder.width is 0; it must be at least 1"),
        ({"encoder": {"name": "stgcn", "width": True}}, "encoder.width must be a whole number, not True"),
        ({"encoder": {"name": "stgcn", "dropout": 1.5}}, "encoder.dropout is 1.5; it must be at most 0.999"),
        ({"encoder": {"name": "stgcn", "dropout": -0.5}}, "encoder.dropout is -0.5; it must be at least 0"),
        ({"encoder": {"name": "stgcn", "graph": "full"}}, "encoder.graph is 'full'; known: stgcn_capped"),
        ({"head": {"depth": 3}}, "unknown key 'head.depth'; .*known: head.hidden, head.dim"),
        ({"head": [256, 128]}, "head must be a section"),
        ({"queue": 1.5}, "queue must be a whole number"),
        ({"queue": None}, "queue must be a whole number, not nothing"),
        ({"momentum": 1.1}, "momentum is 1.1; it must be at most 1"),
        ({"momentum": float("nan")}, "momentum must be a number"),
        ({"temperature": 0}, "temperature is 0; it must be above 0"),
        ({"temperature": "warm"}, "temperature must be a number, not 'warm'"),
        ({"epoch": 300}, "unknown key 'epoch'; known: method, variant"),
    ],
)
def test_wrong_recipes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_method({**RECIPE, **change}, KINECT)
