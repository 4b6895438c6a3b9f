"""Neighbouring linear augmentations folded into one operation per dimension, and applied in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.draws import Draws
from skelpipe.augment.warp import warp, weigh
from skelpipe.dataset.mapped_clips import MappedClips

__all__ = ["AxisOp", "Fold", "FrameOp", "JointOp", "MaskOp", "Op", "OwningOp", "Params", "kind_of", "owns_memory"]

Params: TypeAlias = dict[str, Tensor]


class Op(Protocol):
    """An augmentation: `sample` draws parameters with one row per clip, `apply` is pure."""

    def sample(self, draws: Draws, shape: Sequence[int]) -> Params: ...

    def apply(self, x: Tensor, params: Params) -> Tensor: ...


@runtime_checkable
class FrameOp(Op, Protocol):
    """An augmentation that only chooses frames: int64[N,T]."""

    def frames(self, params: Params, count: int) -> Tensor: ...


@runtime_checkable
class AxisOp(Op, Protocol):
    """An augmentation that only mixes the axes x, y, z: float32[N,3,3]."""

    def matrix(self, params: Params) -> Tensor: ...


@runtime_checkable
class CentredOp(Op, Protocol):
    """An augmentation that mixes the axes of all joints but one: float32[N,3,3], and the number of that joint."""

    def centred(self, params: Params) -> tuple[Tensor, int]: ...


@runtime_checkable
class MaskOp(Op, Protocol):
    """An augmentation that only weighs the axes x, y, z: float32[N,3]."""

    def weights(self, params: Params) -> Tensor: ...


@runtime_checkable
class JointOp(Op, Protocol):
    """An augmentation that only orders the joints: int64[N,V]."""

    def joints(self, params: Params, count: int) -> Tensor: ...


@runtime_checkable
class OwningOp(Op, Protocol):
    """An augmentation that can work in place: `change` may overwrite the contiguous clips it is given."""

    def change(self, x: Tensor, params: Params) -> Tensor: ...


def owns_memory(y: Tensor, x: Tensor | MappedClips) -> bool:
    """Return whether `y` shares no memory with `x`, so that it may be overwritten."""
    return isinstance(x, MappedClips) or y.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


def kind_of(op: Op) -> str | None:
    """Return the method by which `op` folds, "change" if it can only work in place, None if neither.

    A chain asks once per op: checking a protocol takes longer than applying a small op.
    """
    kinds: dict[str, Any] = {
        "frames": FrameOp,
        "matrix": AxisOp,
        "centred": CentredOp,
        "weights": MaskOp,
        "joints": JointOp,
        "change": OwningOp,
    }
    return next((kind for kind, protocol in kinds.items() if isinstance(op, protocol)), None)


@dataclass(slots=True)
class Fold:
    """Several linear ops as one. Frames, axes and joints are different dimensions, so they commute."""

    frames: Tensor | None = None
    matrix: Tensor | None = None
    weights: Tensor | None = None  # of the axes, after the matrix
    joints: Tensor | None = None
    centre: Tensor | None = None  # the joint, before joints are reordered, that has the matrix `at_centre`
    at_centre: Tensor | None = None

    def add(self, op: Any, kind: str | None, params: Params, shape: Sequence[int]) -> bool:
        """Add `op` after the ops so far, for clips of `shape`; return False if its kind does not fold."""
        match kind:
            case "frames":
                chosen = op.frames(params, shape[2])
                self.frames = chosen if self.frames is None else _chosen(self.frames, chosen)
            case "matrix":
                self._mix(op.matrix(params))
            case "centred":
                return self._mix_around(*op.centred(params))
            case "weights":
                self._weigh(op.weights(params))
            case "joints":
                order = op.joints(params, shape[3])
                self.joints = order if self.joints is None else _chosen(self.joints, order)
            case _:
                return False
        return True

    def params(self) -> Params:
        """Return the arguments that make the same `Fold` again."""
        held = {"frames": self.frames, "matrix": self.matrix, "weights": self.weights, "joints": self.joints}
        held |= {"centre": self.centre, "at_centre": self.at_centre}
        return {name: tensor for name, tensor in held.items() if tensor is not None}

    def apply(self, x: Tensor | MappedClips, *, owned: bool = False) -> Tensor:
        """Apply all ops to clips [N,C,T,V,M]. The result may be `x` itself if there is nothing to do.

        With `owned` x may be overwritten.
        """
        y = warp(x, self.frames, self.matrix, self.joints, self.centre, self.at_centre)
        return y if self.weights is None else weigh(y, self.weights, owned=owned or owns_memory(y, x))

    def _mix(self, matrix: Tensor) -> None:
        if self.weights is not None:
            matrix, self.weights = matrix * self.weights[:, None], None
        self.matrix = matrix if self.matrix is None else _product(matrix, self.matrix)
        if self.at_centre is not None:
            self.at_centre = _product(matrix, self.at_centre)

    def _mix_around(self, matrix: Tensor, joint: int) -> bool:
        """Mix the axes of all joints but one; return False where that does not fold."""
        if self.joints is not None or self.weights is not None or self.centre is not None:
            return False
        if self.matrix is None:
            self.at_centre = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
            self.matrix = matrix
        else:
            self.at_centre, self.matrix = self.matrix, _product(matrix, self.matrix)
        self.centre = torch.full((len(matrix),), joint, device=matrix.device)
        return True

    def _weigh(self, weights: Tensor) -> None:
        if self.matrix is not None:
            self.matrix = self.matrix * weights[:, :, None]
            self.at_centre = None if self.at_centre is None else self.at_centre * weights[:, :, None]
        else:
            self.weights = weights if self.weights is None else self.weights * weights


def _chosen(first: Tensor, then: Tensor) -> Tensor:
    """Return first[n,then[n,i]] of indices [N,T]."""
    if cpu_kernels.usable() and first.device.type == "cpu":
        return cpu_kernels.chosen(first, then)
    n, t = first.shape
    rows = torch.arange(0, n * t, max(t, 1), device=first.device)[:, None] + then
    return first.reshape(-1).index_select(0, rows.view(-1)).view(then.shape)


def _product(second: Tensor, first: Tensor) -> Tensor:
    """Multiply [N,3,3] matrices in full float32, whatever precision matrix products are set to."""
    if cpu_kernels.usable(second, first) and second.shape == first.shape and first.shape[1:] == (3, 3):
        return cpu_kernels.product(second, first)
    return (second[:, :, :, None] * first[:, None]).sum(2)
