"""The values of a recipe: their kinds, their ranges, and what is said about one that does not fit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skelpipe.errors import UsageError

__all__ = ["ABOVE_ZERO", "Setting", "check_section"]

ABOVE_ZERO = 1e-12  # the lowest value where 0 itself is not allowed


@dataclass(frozen=True)
class Setting:
    """One value of a recipe: its kind, its range (both ends allowed) or its choices."""

    kind: str  # "int", "float", "bool", "str" or "ints"
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def check(self, key: str, value: Any, where: str) -> Any:
        """Return `value` as this setting has it; a UsageError naming `where` and `key` where it does not fit."""
        fitting = self._convert(value)
        if fitting is None:
            wanted = {"ints": "a list of whole numbers", "int": "a whole number", "float": "a number"}
            wanted |= {"bool": "true or false", "str": "a text"}
            raise UsageError(f"{where}: {key} must be {wanted[self.kind]}, not {value!r}")
        if self.choices and fitting not in self.choices:
            raise UsageError(f"{where}: {key} is {fitting!r}; known: {', '.join(self.choices)}")
        numbers = fitting if isinstance(fitting, list) else [fitting]
        for number in numbers:
            if isinstance(number, int | float) and not self.low <= number <= self.high:
                least = "above 0" if self.low == ABOVE_ZERO else f"at least {self.low:g}"
                most = "" if self.high == math.inf else f" and at most {self.high:g}"
                raise UsageError(f"{where}: {key} is {number}; it must be {least}{most}")
        return fitting

    def _convert(self, value: Any) -> Any:
        """Return `value` as this kind, or None where it is something else."""
        if self.kind == "ints":
            return value if isinstance(value, list) and all(type(item) is int for item in value) else None
        if self.kind == "float":
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            return float(value) if number else None
        plain = {"int": int, "bool": bool, "str": str}[self.kind]
        return value if type(value) is plain else None


def check_section(section: Any, settings: Mapping[str, Setting], name: str) -> dict[str, Any]:
    """Return what a section has of its `settings`, checked; unknown names are an error that lists the known."""
    if not isinstance(section, Mapping):
        raise UsageError(f"recipe: {name} must be a section of `key: value` lines, not {section!r}")
    for key in section:
        if key not in settings:
            raise UsageError(f"recipe: unknown key '{name}.{key}'; known: {', '.join(settings) or 'none'}")
    return {key: settings[key].check(f"{name}.{key}", section[key], "recipe") for key in section}
