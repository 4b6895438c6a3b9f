"""The backbones by name, with the settings each has in a recipe."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelpipe.errors import UsageError
from skelpipe.models.bigru import BIGRU
from skelpipe.models.dsta import DSTA
from skelpipe.models.graph import VARIANTS
from skelpipe.models.settings import Setting, check_section
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import Layout

__all__ = ["ENCODERS", "INIT", "Backbone", "Encoder", "build_encoder", "draw_weights", "initialise"]

DEVIATION = 0.02


Encoder: TypeAlias = STGCN | BIGRU | DSTA
INIT = Setting("str", choices=("paper", "default"))


@dataclass(frozen=True)
class Backbone:
    """What makes an encoder, called `make(layout, **settings)`, and the settings that recipes have for it."""

    make: Callable[..., Encoder]
    settings: Mapping[str, Setting]

    def defaults(self) -> dict[str, Any]:
        """Return the value that each setting has where none is given."""
        parameters = inspect.signature(self.make).parameters
        return {name: parameters[name].default for name in self.settings}


ENCODERS: Mapping[str, Backbone] = {
    "stgcn": Backbone(
        STGCN,
        {
            "graph": Setting("str", choices=VARIANTS),
            "width": Setting("int", low=1),
            "out_channels": Setting("int", low=1),
            "dropout": Setting("float", low=0, high=0.999),
        },
    ),
    "bigru": Backbone(BIGRU, BIGRU.settings),
    "dsta": Backbone(DSTA, DSTA.settings),
}


def build_encoder(settings: Mapping[str, Any], layout: Layout, init: str = "paper") -> Encoder:
    """Build an encoder for a layout, with weights drawn from torch's global generator.

    `settings` holds `name`, one of `ENCODERS`, and any of that encoder's settings. `init` is `paper` (spec C1)
    or `default` (PyTorch's own). Raises UsageError for an unknown name or setting and for a value out of range.
    """
    if not isinstance(settings, Mapping):
        raise UsageError(f"recipe: encoder must be a section of `key: value` lines, not {settings!r}")
    rest = dict(settings)
    name = rest.pop("name", None)
    if name is None:
        raise UsageError("the recipe lacks 'encoder.name'")
    if name not in ENCODERS:
        raise UsageError(f"unknown encoder {name!r}; known: {', '.join(ENCODERS)}")
    backbone = ENCODERS[name]
    encoder = backbone.make(layout, **check_section(rest, backbone.settings, "encoder"))
    draw_weights(encoder, init)
    return encoder


def draw_weights(module: nn.Module, init: str) -> None:
    """Draw the papers' initial weights, or keep those PyTorch drew when the module was made."""
    if INIT.check("init", init, "recipe") == "paper":
        initialise(module)


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw the weights of a module and all it holds, in place, from torch's global generator.

    Convolutions and linear layers: N(0, 0.02), biases 0. Batch normalisation: weights N(1, 0.02), biases 0.
    Everything else, such as edge importance, LayerNorm and running statistics, stays as it is.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.normal_(part.weight, 0.0, DEVIATION)
        elif isinstance(part, _BatchNorm) and part.affine:
            nn.init.normal_(part.weight, 1.0, DEVIATION)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)
