"""Batch normalisation whose sums are exact, for float32 on a CPU.

PyTorch adds up channels-last activations, as ours are, row by row in float32: over a batch of 128 clips mean,
variance and gradients are then off by up to 2e-4, and by other amounts for other numbers of threads. Here the
sums are float64, and faster. In all else the modules are PyTorch's: names, parameters, running statistics,
evaluation, other devices and types, compiled graphs.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from skelpipe.models.channel_kernels import correlation, moments, scaled, slope

__all__ = ["BatchNorm1d", "BatchNorm2d", "Total", "fits", "move_running_statistics", "normalise"]

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
    number = torch.tensor([x.numel() / x.shape[1]], dtype=torch.float64)
    sums = torch.cat([number, moments(_rows(x.detach())).flatten()])
    if total is not None:
        sums = total(sums)
    mean, square = (sums[1:] / sums[0]).view(2, -1)
    variance = (square - mean.square()).clamp_(min=0)
    move_running_statistics(layer, mean, variance * (sums[0] / (sums[0] - 1).clamp(min=1)))
    inverse = (variance + layer.eps).rsqrt()
    y: Tensor = _Normalise.apply(x, layer.weight, layer.bias, mean, inverse, sums[0], total)
    return y


@torch.no_grad()
def move_running_statistics(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics to those of a batch, of unbiased variance, as PyTorch does in training."""
    if not layer.track_running_stats or layer.running_mean is None or layer.running_var is None:
        return
    step = layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        step = 1 / float(layer.num_batches_tracked) if step is None else step
    for running, new in ((layer.running_mean, mean), (layer.running_var, variance)):
        running.copy_(running.to(new.dtype).lerp(new, step or 0.0))


def _is_summed_naively(layer: _BatchNorm, x: Tensor) -> bool:
    """Return whether PyTorch would add up x in float32: it does not where the numbers of a channel adjoin."""
    if not layer.training or not fits(layer, x) or not 1 < x.dim() < 5:
        return False
    return x.numel() > x.shape[1] and x.movedim(1, -1).is_contiguous()


class _Normalise(torch.autograd.Function):
    """(x - mean) * inverse * weight + bias, with gradients through the statistics of all processes.

    `mean`, `inverse` (1 / deviation) and `count` are float64.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        inverse: Tensor,
        count: Tensor,
        total: Total | None,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, inverse, count)
        ctx.total = total
        scale = inverse if weight is None else inverse * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        rows = _rows(x)
        y = _channels_last(x)
        scaled(rows, scale, shift, _rows(y))
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        rows, given = _rows(x), _rows(given)
        plain, along = correlation(rows, given)
        along = (along - mean * plain) * inverse  # of the normalised values with the gradient
        means = torch.stack([plain, along])
        means = (means.clone() if ctx.total is None else ctx.total(means.clone())) / count
        # dx = scale * (given - means[0] - (x - mean) * inverse * means[1])
        scale = inverse if weight is None else inverse * weight
        tilt = -scale * inverse * means[1]
        dx = _channels_last(x)
        slope(rows, given, torch.stack([scale, tilt, -scale * means[0] - tilt * mean]), _rows(dx))
        parameters = (None, None) if weight is None else (along.to(weight.dtype), plain.to(weight.dtype))
        return (dx, *parameters, None, None, None, None)


def _rows(x: Tensor) -> Tensor:
    """Return [N, C, ...] as contiguous rows [R, C]; channels-last tensors are not copied."""
    return x.movedim(1, -1).reshape(-1, x.shape[1]).contiguous()


def _channels_last(x: Tensor) -> Tensor:
    """Return memory of the shape of x [N, C, ...] whose `_rows` are a view."""
    last = torch.empty(x.shape[0], *x.shape[2:], x.shape[1], device="meta").movedim(-1, 1)
    return torch.empty_strided(x.shape, last.stride())
