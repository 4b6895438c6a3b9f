"""The kinds of settings that only models have, beside those of `skelpipe.settings`, and what methods share."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from skelpipe.errors import UsageError
from skelpipe.settings import TOP, Count, Flag, Positive, Share

__all__ = [
    "AbsentBodies",
    "BackboneSettings",
    "ContrastSettings",
    "HeadSettings",
    "Initialiser",
    "NoSettings",
    "ProjectionSettings",
    "refuse_unused",
]

Initialiser = Literal["paper", "default"]
AbsentBodies = Literal["as-papers", "once", "masked"]


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The `encoder` section: the backbone's `name`, and in a subclass its settings."""

    name: str = ""


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """The section of a method that has no settings of its own.

    `Settings` may have a method `check(variant)` that raises UsageError for values without effect beside others.
    """


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """The `head` section: the projection head from h to z of `dim` channels; see `projection_head`."""

    hidden: Count = 256
    dim: Count = 128
    batch_norm: Flag = False


@dataclass(frozen=True, kw_only=True)
class ProjectionSettings:
    """What the `Settings` of a method with a projection head inherit; `head` stands at a recipe's top."""

    head: HeadSettings = field(default_factory=HeadSettings, metadata=TOP)


@dataclass(frozen=True, kw_only=True)
class ContrastSettings(ProjectionSettings):
    """What the `Settings` of a method inherit that contrasts with a queue of keys (He et al. 2020).

    `momentum` is that of the key network. All stand at a recipe's top.
    """

    temperature: Positive = field(default=0.07, metadata=TOP)
    momentum: Share = field(default=0.999, metadata=TOP)
    queue: Count = field(default=32768, metadata=TOP)


def refuse_unused(section: str, settings: Any, names: Iterable[str], reason: str) -> None:
    """Raise UsageError where one of `names`, which have no effect for that `reason`, is not at its default."""
    default = type(settings)()
    for name in names:
        if (value := getattr(settings, name)) != getattr(default, name):
            fault = f"is {value!r} and has no effect with {section}.{reason}: leave it out"
            raise UsageError(f"{section}.{name} {fault}")
