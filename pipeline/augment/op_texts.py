"""An operator in one line: its name in lists and its settings, such as `shear(amplitude=0.5)`."""

from dataclasses import fields, is_dataclass
from typing import Any

from skelpipe.augment.operators import LAYOUT, OPERATORS, PROBABILITY, P
from skelpipe.augment.region import Region

__all__ = ["op_text"]


def op_text(op: Any) -> str:
    """Return an operator in one line: its name, and its settings where it tells them."""
    named = (name for name, operator in OPERATORS.items() if operator.kind is type(op))
    name = next(named, type(op).__name__)
    if not hasattr(op, "region") and not is_dataclass(op) and type(op).__repr__ is not object.__repr__:
        return repr(op)
    values = _settings(op)
    if PROBABILITY in values:
        values[P] = values.pop(PROBABILITY)
    return f"{name}({', '.join(f'{key}={value}' for key, value in values.items())})"


def _settings(op: Any) -> dict[str, Any]:
    if isinstance(region := getattr(op, "region", None), Region):
        return _settings(region)
    if not is_dataclass(op):
        return {}
    values = {each.name: getattr(op, each.name) for each in fields(op) if each.repr and each.name != LAYOUT}
    return {key: value for key, value in values.items() if value is not None}
