"""The joint, bone and motion views of a clip (docs/conventions.md), for numpy arrays and torch tensors.

Shapes are `[...,C,T,V,M]`; all three views have the same shape.
"""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout

if TYPE_CHECKING:
    import torch

__all__ = ["VIEWS", "bone", "derive", "motion"]

VIEWS = ("joint", "bone", "motion")

X = TypeVar("X", np.ndarray, "torch.Tensor")


def bone(x: X, layout: Layout) -> X:
    """Return `x[child] - x[parent]` for every bone; the centre, its own parent, gets 0."""
    parents = list(layout.parents)
    if isinstance(x, np.ndarray):
        return x - np.take(x, parents, axis=-2)  # ten times faster than x[..., parents, :]
    return x - x[..., parents, :]


def motion(x: X) -> X:
    """Return `x[t+1] - x[t]`; the last frame gets 0."""
    result = x - x  # zeros of the type, shape and device of x
    result[..., :-1, :, :] = x[..., 1:, :, :] - x[..., :-1, :, :]
    return result


def derive(x: X, view: str, layout: Layout) -> X:
    """Return the named view of the joint clips `x`; `joint` is `x` itself."""
    if view == "joint":
        return x
    if view == "bone":
        return bone(x, layout)
    if view == "motion":
        return motion(x)
    raise UsageError(f"there is no view {view!r}; there are: {', '.join(VIEWS)}")
