"""Backbones by name, and their initial weights."""

import inspect
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelpipe.errors import UsageError
from skelpipe.models.backbone import Backbone
from skelpipe.models.bigru import BIGRU
from skelpipe.models.dsta import DSTA
from skelpipe.models.settings import BackboneSettings
from skelpipe.models.settings.tables import backbone_settings
from skelpipe.models.stgcn import STGCN
from skelpipe.plugins import Table, check_call
from skelpipe.settings import declared, nested
from skelpipe.skeleton import Layout

__all__ = ["ENCODERS", "Encoder", "backbone_settings", "build_encoder", "draw_weights", "initialise"]

DEVIATION = 0.02  # standard deviation of initial weights, in the released code of all methods

Encoder: TypeAlias = STGCN | BIGRU | DSTA

_BUILT_IN: dict[str, type[Encoder]] = {"stgcn": STGCN, "bigru": BIGRU, "dsta": DSTA}


def _accept(name: str, kind: Any) -> type[Encoder]:
    """Return the backbone of a plug-in."""
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError("it is no class of torch.nn.Module")
    backbone: Any = kind
    missing = [each for each in ("features", "pool", "joint_map") if not hasattr(backbone, each)]
    missing += ["forward"] if backbone.forward is nn.Module.forward else []
    missing += ["features"] if getattr(backbone, "features", None) is Backbone.features else []
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    check_call(backbone.features, "features", "self", "x")
    check_call(backbone.pool, "pool", "self", "features", "bodies")
    check_call(backbone.forward, "forward", "self", "x")
    settings: Any = backbone.Settings
    if not issubclass(settings, BackboneSettings):
        raise ValueError("its Settings are no subclass of skelpipe.models.settings.BackboneSettings")
    values = {**nested(declared(settings)), "in_channels": 3}
    del values["name"]
    try:
        inspect.signature(backbone).bind(None, **values)
    except TypeError as error:
        raise ValueError(f"it cannot be made of a layout, in_channels and its settings: {error}") from None
    accepted: type[Encoder] = backbone
    return accepted


# Each class is called with a layout, `in_channels` and the fields of its `Settings`, the name left out.
ENCODERS: Final[Table[type[Encoder]]] = Table("backbone", _BUILT_IN, _accept)


def build_encoder(
    settings: BackboneSettings | Mapping[str, Any], layout: Layout, init: str = "paper", channels: int = 3
) -> Encoder:
    """Build an encoder for a layout, with weights drawn from torch's global generator.

    `settings` may be a section, which is checked first. `init` is `paper` (see `initialise`) or `default`
    (PyTorch's own). `channels` is the number of channels of the clips, 4 where they have scores
    (`Dataset.channels`). Raises UsageError as `backbone_settings` does.
    """
    if not isinstance(settings, BackboneSettings):
        settings = backbone_settings(settings, "recipe")
    values = nested(settings)
    name = values.pop("name")
    encoder = ENCODERS[name](layout, in_channels=channels, **values)
    if missing := [each for each in ("feature_dim", "layout") if not hasattr(encoder, each)]:
        raise UsageError(f"backbone {name} of the plug-in {ENCODERS.origins.get(name)} has no {missing[0]}")
    draw_weights(encoder, init)
    return encoder


def draw_weights(module: nn.Module, init: str) -> None:
    """Draw the papers' initial weights (`paper`), or keep those that PyTorch drew (`default`)."""
    if init not in ("paper", "default"):
        raise UsageError(f"recipe: init is {init!r}; known: paper, default")
    if init == "paper":
        initialise(module)


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw the papers' initial weights in place, from torch's global generator.

    Convolutions and linear layers: N(0, 0.02), biases 0. Batch normalisation: weights N(1, 0.02), biases 0.
    Everything else, such as edge importance, LayerNorm and running statistics, does not change
    (docs/conventions.md).
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
