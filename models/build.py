"""From plain settings, such as a recipe's, to networks with the papers' initial weights."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from skelpipe.errors import UsageError
from skelpipe.models.heads import projection_head
from skelpipe.models.init import initialise
from skelpipe.models.moco import MoCo
from skelpipe.models.skeletonclr import SkeletonCLR
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import Layout

__all__ = ["ENCODERS", "METHODS", "build_encoder", "build_method"]

ENCODERS = ("stgcn",)
METHODS = ("skeletonclr",)
INITIALISERS = ("paper", "default")


def build_encoder(settings: Mapping[str, Any], layout: Layout, init: str = "paper") -> STGCN:
    """Build an encoder for a layout, with weights drawn from torch's global generator.

    `settings`: name ("stgcn"), and optionally graph, width, out_channels, dropout, in_channels (see `STGCN`).
    `init` is `paper` (spec C1) or `default` (PyTorch's own).

    Raises `UsageError` for an unknown name or setting and for a value out of range.
    """
    _check_mapping(settings, "encoder")
    name = _required(settings, "name", "encoder")
    if name not in ENCODERS:
        raise UsageError(f"unknown encoder {name!r}; known: {', '.join(ENCODERS)}")
    _only(settings, "encoder", ("name", "graph", "width", "out_channels", "dropout", "in_channels"))
    encoder = STGCN(
        layout,
        graph=settings.get("graph", "stgcn_capped"),
        width=_count(settings, "width", "encoder", default=16),
        out_channels=_count(settings, "out_channels", "encoder", default=256),
        dropout=_number(settings, "dropout", "encoder", 0.0, 1.0, default=0.5),
        in_channels=_count(settings, "in_channels", "encoder", default=3),
    )
    _draw_weights(encoder, init)
    return encoder


def build_method(recipe: Mapping[str, Any], layout: Layout) -> nn.Module:
    """Build a method for a layout from a recipe, query and key network starting from the same weights.

    Reads method, init, encoder {..}, head {hidden, dim, batch_norm}, queue, momentum and temperature, and ignores
    the recipe's other keys. Raises `UsageError` for an unknown method and for what `build_encoder` refuses.
    """
    method = _required(recipe, "method", "recipe")
    match method:
        case "skeletonclr":
            return SkeletonCLR(_moco(recipe, layout), _positive(recipe, "temperature", "recipe"))
    raise UsageError(f"unknown method {method!r}; known: {', '.join(METHODS)}")


def _moco(recipe: Mapping[str, Any], layout: Layout) -> MoCo:
    init = recipe.get("init", "paper")
    encoder = build_encoder(_required(recipe, "encoder", "recipe"), layout, init)
    settings = recipe.get("head") or {}
    _check_mapping(settings, "head")
    _only(settings, "head", ("hidden", "dim", "batch_norm"))
    dim = _count(settings, "dim", "head", default=128)
    hidden = _count(settings, "hidden", "head", default=256)
    head = projection_head(encoder.feature_dim, hidden, dim, bool(settings.get("batch_norm", False)))
    _draw_weights(head, init)
    return MoCo(
        encoder,
        head,
        dim=dim,
        queue_size=_count(recipe, "queue", "recipe"),
        momentum=_number(recipe, "momentum", "recipe", 0.0, 1.0),
    )


def _check_mapping(settings: object, where: str) -> None:
    if not isinstance(settings, Mapping):
        raise UsageError(f"{where} must be a table of settings, not {settings!r}")


def _draw_weights(module: nn.Module, init: str) -> None:
    """Draw the papers' initial weights, or keep those PyTorch drew when the module was made."""
    if init not in INITIALISERS:
        raise UsageError(f"unknown init {init!r}; known: {', '.join(INITIALISERS)}")
    if init == "paper":
        initialise(module)


def _required(settings: Mapping[str, Any], key: str, where: str) -> Any:
    if settings.get(key) is None:
        raise UsageError(f"the {where} lacks {key!r}")
    return settings[key]


def _only(settings: Mapping[str, Any], where: str, known: tuple[str, ...]) -> None:
    unknown = [str(key) for key in settings if key not in known]
    if unknown:
        raise UsageError(f"{where}: unknown setting {', '.join(unknown)}; known: {', '.join(known)}")


def _count(settings: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    value = default if key not in settings and default is not None else _required(settings, key, where)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{where}: {key} must be a whole number of at least 1, not {value!r}")
    return value


def _number(
    settings: Mapping[str, Any], key: str, where: str, low: float, high: float, default: float | None = None
) -> float:
    value = default if key not in settings and default is not None else _required(settings, key, where)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(f"{where}: {key} must be a number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def _positive(settings: Mapping[str, Any], key: str, where: str) -> float:
    value = _number(settings, key, where, 0.0, float("inf"))
    if value == 0:
        raise UsageError(f"{where}: {key} must be above 0")
    return value
