"""Augmentations one after another, with all neighbours that fold done in one pass."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.shear import Shear
from skelpipe.augment.warp import warp
from skelpipe.errors import UsageError

__all__ = ["AxisOp", "Chain", "FrameOp", "Op", "Params", "chain"]

Params: TypeAlias = dict[str, Tensor]


class Op(Protocol):
    """An augmentation: `sample` draws parameters with a leading N, `apply` is pure."""

    def sample(self, draws: Draws, shape: Sequence[int]) -> Params: ...

    def apply(self, x: Tensor, params: Params) -> Tensor: ...


@runtime_checkable
class FrameOp(Op, Protocol):
    """An augmentation that only chooses frames."""

    def frames(self, params: Params, count: int) -> Tensor: ...


@runtime_checkable
class AxisOp(Op, Protocol):
    """An augmentation that only mixes the axes."""

    def matrix(self, params: Params) -> Tensor: ...


class Chain:
    """Augmentations in order. Op number i draws from `draws.child(i)`.

    Choosing frames and mixing axes touch different dimensions, so they commute: a run of such ops becomes
    one frame index and one matrix per sample, applied together. The result equals that of the ops one by
    one up to the rounding of the matrix product.
    """

    def __init__(self, ops: Sequence[Op]) -> None:
        self.ops = tuple(ops)

    def sample(self, draws: Draws, shape: Sequence[int]) -> tuple[Params, ...]:
        """Draw the parameters of each op for clips of `shape` [N,C,T,V,M]."""
        return tuple(op.sample(draws.child(i), shape) for i, op in enumerate(self.ops))

    def apply(self, x: Tensor, params: Sequence[Params]) -> Tensor:
        """Apply the ops with these parameters to clips [N,C,T,V,M]."""
        frames: Tensor | None = None
        matrix: Tensor | None = None
        for op, drawn in zip(self.ops, params, strict=True):
            if isinstance(op, FrameOp):
                chosen = op.frames(drawn, x.shape[2])
                frames = chosen if frames is None else frames.gather(1, chosen)
            elif isinstance(op, AxisOp):
                mixture = op.matrix(drawn)
                matrix = mixture if matrix is None else _product(mixture, matrix)
            else:
                x = op.apply(warp(x, frames, matrix), drawn)
                frames = matrix = None
        return warp(x, frames, matrix)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        """Draw and apply."""
        return self.apply(x, self.sample(draws, x.shape))


def chain(name: str, *, shear: float = 0.5, crop: int = 6) -> Chain:
    """Build a chain by name: `normal` is a temporal crop, then a shear (spec B1)."""
    match name:
        case "normal":
            return Chain([Crop(crop), Shear(shear)])
        case _:
            raise UsageError(f"no augmentation is called {name!r}; known: normal")


def _product(second: Tensor, first: Tensor) -> Tensor:
    """Multiply [N,3,3] matrices in full float32, whatever precision matrix products are set to."""
    return (second[:, :, :, None] * first[:, None]).sum(2)
