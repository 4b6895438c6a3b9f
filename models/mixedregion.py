"""How the recipes of SkeleMixCLR and SkeAttnCLR bound the region that SkeleMix replaces (spec B5)."""

from collections.abc import Mapping
from typing import Any

from skelpipe.errors import UsageError
from skelpipe.models.settings import Setting

__all__ = ["BOUNDS", "bounds"]

BOUNDS: Mapping[str, Setting] = {"parts": Setting("ints", low=1), "blocks": Setting("ints", low=1)}


def bounds(method: str, settings: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the least and the most body parts, and blocks of four frames, of a method's section.

    Raises UsageError where one of them is no pair in its order.
    """
    pairs = {}
    for key in BOUNDS:
        values = settings[key]
        if len(values) != 2 or values[0] > values[1]:
            raise UsageError(f"recipe: {method}.{key} must be [least, most], not {values}")
        pairs[key] = (values[0], values[1])
    return pairs
