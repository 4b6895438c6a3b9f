"""Tensors in nested dicts, lists and tuples, named or not: what is drawn for views, and what it comes to."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["like", "map_tensors"]


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Apply `function` to every tensor in nested dicts, lists and tuples."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return like(tree, [map_tensors(function, value) for value in tree])
    return tree


def like(tree: Any, values: list[Any]) -> Any:
    """Return the values in a list or tuple, named or not, of the kind that `tree` is."""
    return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
