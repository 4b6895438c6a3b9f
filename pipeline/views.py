"""The joint, bone and motion views of a clip (docs/conventions.md), for numpy arrays and torch tensors.

Shapes are `[...,C,T,V,M]`; all three views have the same shape. Channels 0..2 are the positions x, y, z; a further
channel is the score of a joint, how sure its detector was. A difference of scores would tell nothing: the score of
a bone or of a motion is the mean of the two scores that it is made of, as in pyskl (Duan et al. 2022).
"""

from typing import TYPE_CHECKING, TypeVar

from skelpipe.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from skelpipe.skeleton import Layout

__all__ = ["POSITIONS", "VIEWS", "bone", "derive", "motion", "positions"]

VIEWS = ("joint", "bone", "motion")
POSITIONS = 3  # the first channels of a clip: x, y, z

X = TypeVar("X", "np.ndarray", "torch.Tensor")


def positions(x: X) -> X:
    """Return the channels x, y, z of clips `[...,C,T,V,M]`, without a copy."""
    return x[..., :POSITIONS, :, :, :]


def bone(x: X, layout: "Layout") -> X:
    """Return `x[child] - x[parent]` for every bone; the centre, its own parent, gets 0.

    A score becomes the mean of child and parent; the centre keeps its own.
    """
    import numpy as np  # here, as help shows the names of the views without it

    parents = list(layout.parents)
    # On arrays ten times faster than x[..., parents, :].
    other = np.take(x, parents, axis=-2) if isinstance(x, np.ndarray) else x[..., parents, :]
    result = x - other
    if x.shape[-4] > POSITIONS:
        result[..., POSITIONS:, :, :, :] = _mean(x[..., POSITIONS:, :, :, :], other[..., POSITIONS:, :, :, :])
    return result


def motion(x: X) -> X:
    """Return `x[t+1] - x[t]`; the last frame gets 0. A score becomes the mean of both frames', 0 in the last."""
    result = x - x  # zeros of the type, shape and device of x
    result[..., :-1, :, :] = x[..., 1:, :, :] - x[..., :-1, :, :]
    if x.shape[-4] > POSITIONS:
        score = x[..., POSITIONS:, :, :, :]
        result[..., POSITIONS:, :-1, :, :] = _mean(score[..., 1:, :, :], score[..., :-1, :, :])
    return result


def derive(x: X, view: str, layout: "Layout") -> X:
    """Return the named view of the joint clips `x`; `joint` is `x` itself."""
    if view == "joint":
        return x
    if view == "bone":
        return bone(x, layout)
    if view == "motion":
        return motion(x)
    raise UsageError(f"there is no view {view!r}; there are: {', '.join(VIEWS)}")


def _mean(first: X, second: X) -> X:
    return (first + second) / 2
