"""Batch normalisation whose sums are exact, for float32 on a CPU.

PyTorch adds up channels-last activations, as ours are, row by row in float32: over a batch of 128 clips mean,
variance and gradients are then off by up to 2e-4, and by other amounts for other numbers of threads. Here the
sums are float64, and faster. In all else the modules are PyTorch's: names, parameters, running statistics,
evaluation, other devices and types, compiled graphs.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
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

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Measured",
    "Part",
    "Repeats",
    "Total",
    "Weights",
    "add_up",
    "centred",
    "count_batch",
    "fits",
    "let_count",
    "measure",
    "normalise",
    "own_gradients",
    "parameter",
    "parts_of",
    "tracking_step",
    "weighted",
    "weights_of",
]

Total: TypeAlias = Callable[[Tensor], Tensor]  # sums a tensor over all processes, in place


@dataclass(frozen=True)
class Repeats:
    """A batch of `rows` rows, of which the last stands for `last` rows that are the same; 0: for none.

    The first dimension of what is normalised has a whole number of elements per row. Given gradients of the last
    row are sums over the rows that it stands for.
    """

    rows: int
    last: int

    def weights(self, like: Tensor) -> Tensor:
        """Return for how many rows each row stands, [rows], of the type and on the device of `like`."""
        weights = like.new_ones(self.rows)
        weights[-1:].fill_(self.last)
        return weights


@dataclass(frozen=True)
class Weights:
    """A batch of rows that stand for `each` [rows] rows, as `Repeats` but known on the device only; 0 is none."""

    each: Tensor

    def weights(self, like: Tensor) -> Tensor:
        """Return for how many rows each row stands, [rows], of the type of `like`."""
        return self.each.to(like.dtype)


class BatchNorm1d(nn.BatchNorm1d):
    """`nn.BatchNorm1d` with exact sums, and with rows that stand for several."""

    counted: bool = False  # by the network: see `count_batch`

    def forward(self, x: Tensor, repeats: Repeats | Weights | None = None) -> Tensor:
        if not isinstance(repeats, Weights) and _is_summed_naively(self, x):
            return normalise(self, x, repeats=repeats)
        if repeats is not None and self.training:
            return weighted(self, x, repeats)
        return _uncounted(self, x) if self.counted and self.training else super().forward(x)


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with exact sums, and with rows that stand for several."""

    counted: bool = False  # by the network: see `count_batch`

    def forward(self, x: Tensor, repeats: Repeats | Weights | None = None) -> Tensor:
        if not isinstance(repeats, Weights) and _is_summed_naively(self, x):
            return normalise(self, x, repeats=repeats)
        if repeats is not None and self.training:
            return weighted(self, x, repeats)
        return _uncounted(self, x) if self.counted and self.training else super().forward(x)


def fits(layer: _BatchNorm, x: Tensor) -> bool:
    """Return whether `normalise` can take these: float32 on a CPU, not while a graph is compiled."""
    if torch.compiler.is_compiling():
        return False
    tensors = (x, layer.weight, layer.bias)
    return all(t is None or (t.device.type == "cpu" and t.dtype == torch.float32) for t in tensors)


def normalise(layer: _BatchNorm, x: Tensor, total: Total | None = None, repeats: Repeats | None = None) -> Tensor:
    """Return [N, C, ...] normalised as `layer` does in training, by mean and variance of its batch.

    `total` makes this the batch of all processes, `repeats` one whose last row counts several times. The running
    statistics move, and gradients flow through mean and variance.
    """
    layer._check_input_dim(x)
    measured = measure(layer, parts_of(_rows(x), x.shape[1], repeats), x.shape[1], total)
    y: Tensor = _Normalise.apply(x, layer.weight, layer.bias, measured, total, repeats)
    return y


@dataclass(frozen=True)
class Measured:
    """A batch and its statistics: `parts`, `statistics`, and the number of values per channel of all processes."""

    parts: "list[Part]"
    found: np.ndarray
    count: float


def measure(layer: _BatchNorm, parts: "list[Part]", channels: int, total: Total | None) -> Measured:
    """Return mean and variance of a batch, and move the layer's running statistics."""
    count, sums = _moments(parts, channels)
    if total is not None:
        count, sums = _of_all(count, sums, total)
    count = max(count, 1.0)  # of rows that all count for nothing
    found = statistics(sums, count, layer.eps)
    step = tracking_step(layer)
    if step is not None:
        for running, new, factor in (
            (cast(Tensor, layer.running_mean), found[0], 1.0),
            (cast(Tensor, layer.running_var), found[1], count / max(count - 1, 1)),
        ):
            move(running.numpy(), new, step, factor)
            increment_version(running)
    return Measured(parts, found, count)


def weighted(layer: _BatchNorm, x: Tensor, repeats: Repeats | Weights) -> Tensor:
    """Return what `normalise` does, by operations of torch: for any type, device and weights."""
    layer._check_input_dim(x)
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    dims, shape = [d for d in range(x.dim()) if d != 1], [1, -1] + [1] * (x.dim() - 2)
    weights = weights_of(repeats, wide)
    count = (weights.sum() * math.prod(x.shape[2:])).clamp(min=1)
    mean = (wide * weights).sum(dims) / count
    apart = wide - mean.view(shape)
    variance = (apart.square() * weights).sum(dims) / count
    step = tracking_step(layer)
    if step is not None and layer.running_mean is not None and layer.running_var is not None:
        unbiased = variance * count / (count - 1).clamp(min=1)
        layer.running_mean.lerp_(mean.detach().to(layer.running_mean.dtype), step)
        layer.running_var.lerp_(unbiased.detach().to(layer.running_var.dtype), step)
    y = apart * (variance + layer.eps).rsqrt().view(shape)
    if layer.weight is not None:
        y = torch.addcmul(layer.bias.view(shape), y, layer.weight.view(shape))
    return y.to(x.dtype)


def weights_of(repeats: Repeats | Weights, x: Tensor) -> Tensor:
    """Return for how many each element of the first dimension of x stands, shaped to multiply x."""
    each = repeats.weights(x)
    return each.repeat_interleave(len(x) // len(each)).view(-1, *[1] * (x.dim() - 1))


def let_count(network: nn.Module) -> None:
    """Let a network count batches for all of its layers, by `count_batch` whenever it is passed."""
    for layer in network.modules():
        if isinstance(layer, BatchNorm1d | BatchNorm2d) and layer.momentum is not None:
            layer.counted = True


def count_batch(network: nn.Module, batches: int = 1) -> None:
    """Count batches, in training, in all layers that `let_count` found: one operation, on a GPU one kernel."""
    counters = [
        layer.num_batches_tracked
        for layer in network.modules()
        if getattr(layer, "counted", False) and layer.training and layer.num_batches_tracked is not None
    ]
    if counters:
        torch._foreach_add_(cast(list[Tensor], counters), batches)


def _uncounted(layer: _BatchNorm, x: Tensor) -> Tensor:
    """Return what PyTorch's module does in training, without counting the batch."""
    layer._check_input_dim(x)
    where = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    return F.batch_norm(x, *where, True, cast(float, layer.momentum), layer.eps)


def tracking_step(layer: _BatchNorm) -> float | None:
    """Count a batch, unless the network does; return the share by which the running statistics move, if any."""
    if not layer.track_running_stats or layer.running_mean is None or layer.running_var is None:
        return None
    step = layer.momentum
    if layer.num_batches_tracked is not None and not getattr(layer, "counted", False):
        layer.num_batches_tracked.add_(1)
        step = 1 / float(layer.num_batches_tracked) if step is None else step
    return step or 0.0


def _is_summed_naively(layer: _BatchNorm, x: Tensor) -> bool:
    """Return whether PyTorch would add up x in float32: it does not where the numbers of a channel adjoin."""
    if not layer.training or not fits(layer, x) or not 1 < x.dim() < 5:
        return False
    return x.numel() > x.shape[1] and x.stride() == _strides(x.shape)


class _Normalise(torch.autograd.Function):
    """(x - mean) / deviation * weight + bias, with gradients through the statistics of all processes."""

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
        ctx.save_for_backward(x, weight)
        ctx.found, ctx.count, ctx.total, ctx.repeats = measured.found, measured.count, total, repeats
        y = _channels_last(x.shape)
        scale, shift = parameter(weight, 1, x.shape[1]), parameter(bias, 0, x.shape[1])
        for part, out in zip(measured.parts, parts_of(_rows(y), x.shape[1], repeats), strict=True):
            scaled(part.numbers, line(measured.found, scale, shift, part.width), out.numbers)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        channels, dx = x.shape[1], _channels_last(x.shape)
        parts, steep, out = (parts_of(_rows(each), channels, ctx.repeats) for each in (x, given, dx))
        pairs = list(zip(parts, steep, strict=True))
        # The given gradients of a row that stands for several are sums already.
        sums = add_up(correlation(part.numbers, g.numbers, channels) for part, g in pairs)
        whole = centred(ctx.found, sums, ctx.total)
        for (part, g), slopes in zip(pairs, out, strict=True):
            factors = tangent(ctx.found, parameter(weight, 1, channels), whole, part.share(ctx.count), part.width)
            slope(part.numbers, g.numbers, factors, slopes.numbers)
        return dx, *own_gradients(weight, sums), None, None, None


def add_up(sums: Iterable[np.ndarray]) -> np.ndarray:
    """Return the sum of sums per channel, float64[2, C], of all parts."""
    return cast(np.ndarray, sum(sums))


def centred(found: np.ndarray, sums: np.ndarray, total: Total | None) -> np.ndarray:
    """Make of the sums of g and x g those of g and (x - mean) / deviation g, in place; return all processes'."""
    centre(found, sums)
    return sums if total is None else _of_all(0.0, sums, total)[1]


def own_gradients(weight: Tensor | None, sums: np.ndarray) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of a layer's weight and bias, of this process's rows, from what `centred` leaves."""
    if weight is None:
        return None, None
    own = torch.from_numpy(sums.astype(np.float32))
    return own[1], own[0]


@dataclass(frozen=True)
class Part:
    """Joined rows that stand for `copies` rows each."""

    numbers: np.ndarray
    copies: int

    def share(self, count: float) -> float:
        """Return by what the sums over `count` rows are divided in the gradients of these rows."""
        return count / self.copies if self.copies else math.inf

    @property
    def width(self) -> int:
        return int(self.numbers.shape[1])


def parts_of(rows: np.ndarray, channels: int, repeats: Repeats | None) -> list[Part]:
    """Return contiguous values of a batch as joined rows: in one part, or the last row of the batch apart."""
    flat = rows.reshape(-1)
    if repeats is None or repeats.last == 1:
        pieces = [(flat, 1)]
    else:
        cut = flat.size - flat.size // repeats.rows
        pieces = [(flat[:cut], 1), (flat[cut:], repeats.last)]
    return [Part(x.reshape(-1, joined_width(x.size, channels)), copies) for x, copies in pieces if x.size]


def _moments(parts: list[Part], channels: int) -> tuple[float, np.ndarray]:
    """Return the number of values per channel, and the sums of values and of squares, float64[2, C]."""
    count = sum(part.copies * (part.numbers.size / channels) for part in parts)
    return count, add_up(part.copies * moments(part.numbers, channels) for part in parts)


def _of_all(count: float, sums: np.ndarray, total: Total) -> tuple[float, np.ndarray]:
    """Return count and sums, float64[2, C], over all processes; they travel in one message."""
    whole = total(torch.from_numpy(np.append(sums, count))).numpy()
    return float(whole[-1]), whole[:-1].reshape(2, -1)


def parameter(given: Tensor | None, value: float, channels: int) -> np.ndarray:
    """Return a parameter [C] of a layer, or a constant where the layer has none."""
    if given is None:
        return np.full(channels, value, np.float32)
    return given.detach().numpy()


def _rows(x: Tensor) -> np.ndarray:
    """Return [N, C, ...] with the channels last, contiguous: of channels-last tensors a view."""
    rows = x.detach().numpy()
    if x.dim() > 2:
        rows = rows.transpose(_LAST[x.dim()])
    return np.ascontiguousarray(rows)


def _channels_last(shape: torch.Size) -> Tensor:
    """Return memory for [N, C, ...] of which `_rows` is a view."""
    return torch.empty_strided(shape, _strides(shape))


@lru_cache(maxsize=256)
def _strides(shape: torch.Size) -> tuple[int, ...]:
    channels, *others = shape[1:]
    inner = [channels * math.prod(others[i + 1 :]) for i in range(len(others))]
    return (math.prod(shape[1:]), 1, *inner)


_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1)}  # the dimensions with the channels last, by their number
