"""Batch normalisation whose sums are exact, for float32 on a CPU.

PyTorch adds up channels-last activations, as ours are, row by row in float32: over a batch of 128 clips mean,
variance and gradients are then off by up to 2e-4, and by other amounts for other numbers of threads. Here the
sums are float64, and faster. In all else the modules are PyTorch's: names, parameters, running statistics,
evaluation, other devices and types, compiled graphs.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import increment_version
from torch.nn.modules.batchnorm import _BatchNorm

from skelpipe.models.channel_kernels import (
    centre,
    correlation,
    joined_width,
    line,
    moments,
    move,
    scaled,
    slope,
    statistics,
    tangent,
)

__all__ = ["BatchNorm1d", "BatchNorm2d", "Total", "fits", "normalise", "tracking_step"]

Total: TypeAlias = Callable[[Tensor], Tensor]  # sums a tensor over all processes, in place


class BatchNorm1d(nn.BatchNorm1d):
    """`nn.BatchNorm1d` with exact sums."""

    def forward(self, x: Tensor) -> Tensor:
        return normalise(self, x) if _is_summed_naively(self, x) else super().forward(x)


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with exact sums."""

    def forward(self, x: Tensor) -> Tensor:
        return normalise(self, x) if _is_summed_naively(self, x) else super().forward(x)


def fits(layer: _BatchNorm, x: Tensor) -> bool:
    """Return whether `normalise` can take these: float32 on a CPU, not while a graph is compiled."""
    if torch.compiler.is_compiling():
        return False
    tensors = (x, layer.weight, layer.bias)
    return all(t is None or (t.device.type == "cpu" and t.dtype == torch.float32) for t in tensors)


def normalise(layer: _BatchNorm, x: Tensor, total: Total | None = None) -> Tensor:
    """Return [N, C, ...] normalised as `layer` does in training, by mean and variance of its batch.

    `total` makes this the batch of all processes. The running statistics move, and gradients flow through mean and
    variance.
    """
    layer._check_input_dim(x)
    rows = _rows(x)
    count, sums = x.numel() / x.shape[1], moments(rows, x.shape[1])
    if total is not None:
        count, sums = _of_all(count, sums, total)
    found = statistics(sums, count, layer.eps)
    step = tracking_step(layer)
    if step is not None:
        for running, new, factor in (
            (cast(Tensor, layer.running_mean), found[0], 1.0),
            (cast(Tensor, layer.running_var), found[1], count / max(count - 1, 1)),
        ):
            move(running.numpy(), new, step, factor)
            increment_version(running)
    y: Tensor = _Normalise.apply(x, layer.weight, layer.bias, rows, found, count, total)
    return y


def tracking_step(layer: _BatchNorm) -> float | None:
    """Count a batch; return the share by which the running statistics move, None where there are none."""
    if not layer.track_running_stats or layer.running_mean is None or layer.running_var is None:
        return None
    step = layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        step = 1 / float(layer.num_batches_tracked) if step is None else step
    return step or 0.0


def _is_summed_naively(layer: _BatchNorm, x: Tensor) -> bool:
    """Return whether PyTorch would add up x in float32: it does not where the numbers of a channel adjoin."""
    if not layer.training or not fits(layer, x) or not 1 < x.dim() < 5:
        return False
    return x.numel() > x.shape[1] and x.stride() == _strides(x.shape)


class _Normalise(torch.autograd.Function):
    """(x - mean) / deviation * weight + bias, with gradients through the statistics of all processes.

    `rows` are those of x, `found` the `statistics` of the `count` numbers per channel of all processes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        rows: np.ndarray,
        found: np.ndarray,
        count: float,
        total: Total | None,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.found, ctx.count, ctx.total = found, count, total
        y = _channels_last(x.shape)
        scaled(rows, line(found, _or(weight, 1, x), _or(bias, 0, x), rows.shape[1]), _rows(y))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows, steep = _rows(x), _rows(given)
        sums = correlation(rows, steep, x.shape[1])
        centre(ctx.found, sums)
        whole = sums if ctx.total is None else _of_all(0.0, sums, ctx.total)[1]
        factors = tangent(ctx.found, _or(weight, 1, x), whole, ctx.count, rows.shape[1])
        dx = _channels_last(x.shape)
        slope(rows, steep, factors, _rows(dx))
        if weight is None:
            return dx, None, None, None, None, None, None
        own = torch.from_numpy(sums.astype(np.float32))
        return dx, own[1], own[0], None, None, None, None


def _of_all(count: float, sums: np.ndarray, total: Total) -> tuple[float, np.ndarray]:
    """Return count and sums, float64[2, C], over all processes; they travel in one message."""
    whole = total(torch.from_numpy(np.append(sums, count))).numpy()
    return float(whole[-1]), whole[:-1].reshape(2, -1)


def _or(parameter: Tensor | None, value: float, x: Tensor) -> np.ndarray:
    """Return a parameter [C] of a layer for x [N, C, ...], or a constant where the layer has none."""
    if parameter is None:
        return np.full(x.shape[1], value, np.float32)
    return parameter.detach().numpy()


def _rows(x: Tensor) -> np.ndarray:
    """Return [N, C, ...] as joined rows of channels: of channels-last tensors a view."""
    rows = x.detach().numpy()
    if x.dim() > 2:
        rows = rows.transpose(_LAST[x.dim()])
    return np.ascontiguousarray(rows).reshape(-1, joined_width(rows.size, x.shape[1]))


def _channels_last(shape: torch.Size) -> Tensor:
    """Return memory for [N, C, ...] of which `_rows` is a view."""
    return torch.empty_strided(shape, _strides(shape))


@lru_cache(maxsize=256)
def _strides(shape: torch.Size) -> tuple[int, ...]:
    channels, *others = shape[1:]
    inner = [channels * math.prod(others[i + 1 :]) for i in range(len(others))]
    return (math.prod(shape[1:]), 1, *inner)


_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1)}  # the dimensions with the channels last, by their number
