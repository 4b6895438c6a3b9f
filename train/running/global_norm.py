"""Batch normalisation by the statistics of a batch that several processes share.

As `torch.nn.SyncBatchNorm`, but on any device and for shares of any size. The modules are not replaced:
checkpoints have the same names, parameters and running statistics for any number of processes.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelpipe.models.batch_norm import Repeats, Total, Weights, fits, normalise, tracking_step, weights_of

__all__ = ["average_statistics", "running_statistics", "use_global_batch"]


def use_global_batch(network: nn.Module, total: Total, *, compiled: bool = False) -> int:
    """Make a network's batch normalisation use mean and variance over the batches of all processes.

    This holds in training mode only; gradients flow through the statistics, and every process must run the same
    layers in the same order. `total` sums a tensor over all processes. `compiled` says that the network will be:
    then the layers stay out of its graphs. Returns the number of layers.
    """
    layers = _layers(network)
    forward = torch.compiler.disable(_forward) if compiled else _forward  # it loads all of torch's compiler
    for layer in layers:
        layer.forward = partial(forward, layer, total)  # type: ignore[method-assign]
        layer.total = total  # type: ignore[assignment] # for what takes the place of `forward`
    return len(layers)


@torch.no_grad()
def average_statistics(network: nn.Module, total: Total, processes: int) -> None:
    """Set the running statistics to their mean over the processes, whose batches were normalised separately."""
    for statistic in running_statistics(network):
        statistic.copy_(total(statistic.clone()) / processes)


def running_statistics(network: nn.Module) -> list[Tensor]:
    """Return the running means and variances of all layers, in their order."""
    found = [statistic for layer in _layers(network) for statistic in (layer.running_mean, layer.running_var)]
    return [statistic for statistic in found if statistic is not None]


def _layers(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _forward(layer: _BatchNorm, total: Total, x: Tensor, repeats: Repeats | Weights | None = None) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, x)
    if fits(layer, x) and not isinstance(repeats, Weights):
        return normalise(layer, x, total, repeats)
    layer._check_input_dim(x)
    weights = None if repeats is None else weights_of(repeats, x)
    mean, variance, count = _moments(x.detach(), total, weights)
    _move_running_statistics(layer, mean, variance * count / (count - 1).clamp(min=1))
    normalised: Tensor = _Normalise.apply(
        x, layer.weight, layer.bias, mean, variance, count, layer.eps, total, weights
    )
    return normalised


def _moments(x: Tensor, total: Total, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean [C], biased variance [C] and number of the values per channel over all processes.

    `weights` say how often each element of the first dimension counts, None that all count once. All sums travel
    in one message, in float64: that is exact enough for the difference of mean squares.
    """
    dims = _dims_but_channels(x)
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    one = torch.ones(1, dtype=torch.float64, device=x.device)
    if weights is None:
        variance, mean = torch.var_mean(wide, dims, correction=0)
        number: int | Tensor = x.numel() // x.shape[1]
    else:
        number = weights.sum().double() * (x[0, 0].numel())
        mean = (wide * weights).sum(dims) / number.clamp(min=1).to(wide.dtype)
        apart = wide - mean.view(1, -1, *[1] * (x.dim() - 2))
        variance = (apart.square() * weights).sum(dims) / number.clamp(min=1).to(wide.dtype)
    variance, mean = variance.double(), mean.double()
    sums = total(torch.cat([mean, variance + mean.square(), one]) * number)
    mean, square = (sums[:-1] / sums[-1]).chunk(2)
    return mean.to(wide.dtype), (square - mean.square()).clamp(min=0).to(wide.dtype), sums[-1]


@torch.no_grad()
def _move_running_statistics(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics as PyTorch's batch normalisation does."""
    step = tracking_step(layer)
    if step is not None and layer.running_mean is not None and layer.running_var is not None:
        layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), step)
        layer.running_var.lerp_(variance.to(layer.running_var.dtype), step)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, with gradients through the statistics of all
    processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
        total: Total,
        weights: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance, count, weights)
        ctx.eps, ctx.total = eps, total
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count, weights = ctx.saved_tensors
        given = gradients[0].to(mean.dtype)
        dims, shape = _dims_but_channels(x), [1, -1] + [1] * (x.dim() - 2)
        inverse = (variance + ctx.eps).rsqrt()
        unit = (x.to(mean.dtype) - mean.view(shape)) * inverse.view(shape)
        plain, along = given.sum(dims), (given * unit).sum(dims)
        means = ctx.total(torch.stack([plain, along]).double()) / count
        shift, slope = (each.to(mean.dtype).view(shape) for each in means)
        scale = inverse if weight is None else inverse * weight.to(mean.dtype)
        shared = shift + unit * slope
        # Given gradients are sums over the rows that a row stands for already.
        shared = shared if weights is None else shared * weights.to(mean.dtype)
        dx = (given - shared) * scale.view(shape)
        parameters = (None, None) if weight is None else (along.to(weight.dtype), plain.to(weight.dtype))
        return (dx.to(x.dtype), *parameters, *[None] * 6)


def _dims_but_channels(x: Tensor) -> list[int]:
    """Return the dimensions that are not the channels."""
    return [d for d in range(x.dim()) if d != 1]
