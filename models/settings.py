"""The kinds of settings that only models have, beside those of `skelpipe.settings`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from skelpipe.errors import UsageError

__all__ = ["BackboneSettings", "Initialiser", "refuse_unused"]

Initialiser = Literal["paper", "default"]


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The `encoder` section: the backbone's `name`, and in a subclass its settings."""

    name: str = ""


def refuse_unused(section: str, settings: Any, names: Iterable[str], reason: str) -> None:
    """Raise UsageError where one of `names`, which have no effect for that `reason`, is not at its default."""
    default = type(settings)()
    for name in names:
        if (value := getattr(settings, name)) != getattr(default, name):
            fault = f"is {value!r} and has no effect with {section}.{reason}: leave it out"
            raise UsageError(f"{section}.{name} {fault}")
