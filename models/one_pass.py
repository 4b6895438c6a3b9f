"""Batch normalisation, dropout, residual and rectifier of a block in one pass over memory, in training on a CPU.

PyTorch reads and writes the activations for each of them, in both directions: about a third of a training step.
Results are bit-identical to those of separate passes where 1 / (1 - p) of the dropout is a power of two, and equal
up to rounding elsewhere.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from skelpipe.models.batch_norm import (
    Measured,
    Repeats,
    Total,
    add_up,
    centred,
    fits,
    measure,
    own_gradients,
    parameter,
    parts_of,
)
from skelpipe.models.block_kernels import (
    finish,
    finish_slope,
    finish_sums,
    rectify,
    rectify_slope,
    rectify_sums,
)
from skelpipe.models.channel_kernels import line, tangent

__all__ = ["finished", "in_one_pass", "random_bytes", "rectified"]


def in_one_pass(layer: _BatchNorm, x: Tensor, repeats: object) -> bool:
    """Return whether `rectified` and `finished` can take these: in training, float32 rows on a CPU, contiguous."""
    if not layer.training or not (repeats is None or isinstance(repeats, Repeats)) or not fits(layer, x):
        return False
    watched = layer._forward_hooks or layer._forward_pre_hooks
    return not watched and x.is_contiguous() and x.numel() > x.shape[-1]


def rectified(layer: _BatchNorm, x: Tensor, repeats: Repeats | None = None) -> Tensor:
    """Return max(0, y), y being rows x [R, T, V, C] normalised by `layer`."""
    total = getattr(layer, "total", None)
    measured = measure(layer, parts_of(x.detach().numpy(), x.shape[-1], repeats), x.shape[-1], total)
    y: Tensor = _Rectified.apply(x, layer.weight, layer.bias, measured, total, repeats)
    return y


def finished(layer: _BatchNorm, x: Tensor, around: Tensor, least: int, repeats: Repeats | None = None) -> Tensor:
    """Return max(0, D(y) + around), y being rows x [R, T, V, C] normalised by `layer`.

    D drops `least` in 256 numbers and multiplies the others by 256 / (256 - least); it draws from torch's global
    generator.
    """
    total = getattr(layer, "total", None)
    measured = measure(layer, parts_of(x.detach().numpy(), x.shape[-1], repeats), x.shape[-1], total)
    drawn = random_bytes(x.numel()) if least else None
    y: Tensor = _Finished.apply(
        x, layer.weight, layer.bias, around.contiguous(), measured, drawn, least, total, repeats
    )
    return y


def random_bytes(count: int) -> Tensor:
    """Return uint8[count] from torch's global generator, eight from each number that it draws."""
    words = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.uint8)[:count]


class _Rectified(torch.autograd.Function):
    """max(0, (x - mean) / deviation * weight + bias), with gradients through the statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        measured: Measured,
        total: Total | None,
        repeats: Repeats | None,
    ) -> Tensor:
        y, channels = torch.empty_like(x), x.shape[-1]
        scale, shift = parameter(weight, 1, channels), parameter(bias, 0, channels)
        for part, out in zip(measured.parts, parts_of(y.numpy(), channels, repeats), strict=True):
            rectify(part.numbers, line(measured.found, scale, shift, part.width), out.numbers)
        ctx.save_for_backward(x, weight, y)
        ctx.found, ctx.count, ctx.total, ctx.repeats = measured.found, measured.count, total, repeats
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        channels, dx = x.shape[-1], torch.empty_like(x)
        arrays = (np.ascontiguousarray(each.detach().numpy()) for each in (x, given, y, dx))
        parts = list(zip(*(parts_of(each, channels, ctx.repeats) for each in arrays), strict=True))
        sums = add_up(rectify_sums(a.numbers, g.numbers, b.numbers, channels) for a, g, b, _ in parts)
        whole = centred(ctx.found, sums, ctx.total)
        scale = parameter(weight, 1, channels)
        for a, g, b, slopes in parts:
            factors = tangent(ctx.found, scale, whole, a.share(ctx.count), a.width)
            rectify_slope(a.numbers, g.numbers, b.numbers, factors, slopes.numbers)
        return dx, *own_gradients(weight, sums), None, None, None


class _Finished(torch.autograd.Function):
    """max(0, ((x - mean) / deviation * weight + bias) keep + around), with gradients through the statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        around: Tensor,
        measured: Measured,
        drawn: Tensor | None,
        least: int,
        total: Total | None,
        repeats: Repeats | None,
    ) -> Tensor:
        y, channels = torch.empty_like(x), x.shape[-1]
        scale, shift = parameter(weight, 1, channels), parameter(bias, 0, channels)
        arrays = (around.detach().numpy(), y.numpy(), _bytes(drawn, y))
        parts = zip(measured.parts, *(parts_of(each, channels, repeats) for each in arrays), strict=True)
        for part, beside, out, words in parts:
            factors = line(measured.found, scale, shift, part.width)
            finish(part.numbers, beside.numbers, factors, words.numbers, least, out.numbers)
        ctx.save_for_backward(x, weight, y, drawn)
        ctx.found, ctx.count, ctx.total, ctx.repeats = measured.found, measured.count, total, repeats
        ctx.least = least
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y, drawn = ctx.saved_tensors
        channels, least = x.shape[-1], ctx.least
        dx, around = torch.empty_like(x), torch.empty_like(x)
        arrays = [np.ascontiguousarray(each.detach().numpy()) for each in (x, given, y, around, dx)]
        arrays.append(_bytes(drawn, x))
        parts = list(zip(*(parts_of(each, channels, ctx.repeats) for each in arrays), strict=True))
        sums = add_up(
            finish_sums(a.numbers, g.numbers, b.numbers, words.numbers, least, beside.numbers, channels)
            for a, g, b, beside, _, words in parts
        )
        whole = centred(ctx.found, sums, ctx.total)
        scale = parameter(weight, 1, channels)
        for a, _, _, beside, slopes, words in parts:
            factors = tangent(ctx.found, scale, whole, a.share(ctx.count), a.width)
            finish_slope(a.numbers, beside.numbers, words.numbers, least, factors, slopes.numbers)
        return dx, *own_gradients(weight, sums), around, *[None] * 5


def _bytes(drawn: Tensor | None, like: Tensor) -> np.ndarray:
    """Return what was drawn as an array; where nothing was, one of its size that is never read."""
    return np.empty(like.numel(), np.uint8) if drawn is None else drawn.numpy()
