"""One pass over a batch that chooses frames, reorders joints and mixes axes by a 3x3 matrix."""

import torch
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.joints import reorder
from skelpipe.augment.scores import with_scores
from skelpipe.dataset.mapped_clips import MappedClips
from skelpipe.views import POSITIONS, positions

__all__ = ["warp", "weigh"]


def warp(
    x: Tensor | MappedClips,
    frames: Tensor | None = None,
    matrix: Tensor | None = None,
    joints: Tensor | None = None,
    centre: Tensor | None = None,
    at_centre: Tensor | None = None,
) -> Tensor:
    """Return y[n,c,t,v] = sum over j of matrix[n,c,j] * x[n,j,frames[n,t],joints[n,v]], of x's shape and dtype.

    `x` is [N,C,T,V,M]; `frames` int64[N,T] with values in 0..T-1 (None keeps the frames); `matrix`
    float32[N,3,3] (None keeps the axes); `joints` int64[N,V] (None keeps the joints). With a matrix, the joint
    centre[n] of x, int64[N], may have another one, at_centre[n]. Channels beyond the three
    axes, the scores, go with their frames and joints and are not mixed. Differentiable in `x` and
    `matrix`. Half-precision clips are mixed in float32 and rounded once, under autocast too. The result is `x`
    itself where nothing is asked for, unless the clips are memory-mapped.
    """
    axes = min(x.shape[1], POSITIONS)
    if matrix is not None and matrix.shape != (x.shape[0], axes, axes):
        raise ValueError(f"a matrix of {tuple(matrix.shape)} does not fit clips of {tuple(x.shape)}")
    if frames is not None and frames.shape != (x.shape[0], x.shape[2]):
        raise ValueError(f"frames of {tuple(frames.shape)} do not fit clips of {tuple(x.shape)}")
    if joints is not None and joints.shape != (x.shape[0], x.shape[3]):
        raise ValueError(f"an order of {tuple(joints.shape)} joints does not fit clips of {tuple(x.shape)}")
    if isinstance(x, MappedClips):
        if matrix is not None and axes == POSITIONS and cpu_kernels.usable(matrix):
            return cpu_kernels.mix(x, matrix, frames, joints, centre, at_centre)
        x = x.read()
    if x.numel() == 0:
        return x
    if matrix is not None and axes == POSITIONS and cpu_kernels.usable(x, matrix):
        return cpu_kernels.mix(x, matrix, frames, joints, centre, at_centre)
    if frames is not None:
        x = _choose(x, frames)
    if matrix is not None:
        mixed = _mix(positions(x), matrix)
        if centre is not None and at_centre is not None:
            n, c, t, _, m = mixed.shape
            at = centre[:, None, None, None, None].expand(n, c, t, 1, m)
            mixed = mixed.scatter(3, at, _mix(positions(x).gather(3, at), at_centre))
        x = with_scores(mixed, x)
    return x if joints is None else reorder(x, joints)


def weigh(x: Tensor, weights: Tensor, *, owned: bool = False) -> Tensor:
    """Return y[n,c] = weights[n,c] * x[n,c] of clips [N,C,T,V,M], in x's dtype; weights of the axes are [N,3].

    Scores stay. With `owned` x may be overwritten.
    """
    axes = min(x.shape[1], POSITIONS)
    if weights.shape != (x.shape[0], axes):
        raise ValueError(f"weights of {tuple(weights.shape)} do not fit clips of {tuple(x.shape)}")
    if owned and x.is_contiguous() and cpu_kernels.usable(x, weights):
        cpu_kernels.scale_axes(x, weights)
        return x
    weights = weights[:, :, None, None, None].to(x.dtype)
    if owned and not x.requires_grad:
        positions(x).mul_(weights)
        return x
    return with_scores(positions(x) * weights, x)


def _choose(x: Tensor, frames: Tensor) -> Tensor:
    """Gather whole frames: rows of V*M numbers of a [N*C*T, V*M] table."""
    return x.reshape(-1, x.shape[3] * x.shape[4]).index_select(0, _rows(x, frames).view(-1)).view(x.shape)


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    """Mix the axes by products and sums: a matrix product might be rounded to TF32 or bf16."""
    planes = x.reshape(*x.shape[:2], -1)
    matrix = matrix.to(torch.promote_types(x.dtype, matrix.dtype))
    mixed = planes[:, :1] * matrix[:, :, :1]
    for j in range(1, x.shape[1]):  # the planes first: a broadcast first operand makes this ten times slower
        mixed = mixed.addcmul_(planes[:, j : j + 1], matrix[:, :, j : j + 1])
    return mixed.to(x.dtype).view(x.shape)


def _rows(x: Tensor, frames: Tensor) -> Tensor:
    """Return [N,C,T], in frames' dtype: the row of frame frames[n,t] of axis c in the table of x's frames."""
    n, c, t = x.shape[:3]
    starts = torch.arange(0, n * c * t, t, dtype=frames.dtype, device=x.device).view(n, c, 1)
    return starts + frames[:, None]
