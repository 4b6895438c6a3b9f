"""Tensors nested in dicts, lists, tuples and named tuples, as augmentations draw them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["like", "map_tensors"]


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Return the same nesting with `function` applied to every tensor."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return like(tree, [map_tensors(function, value) for value in tree])
    return tree


def like(tree: Any, values: list[Any]) -> Any:
    """Return the values as a list, tuple or named tuple of the type of `tree`."""
    return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
