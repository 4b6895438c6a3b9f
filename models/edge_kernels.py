"""The neighbourhoods of a graph convolution, gathered along the edges of the graph, on a CPU.

Of the V * V entries of a subset's matrix about one in 25 is an edge of a skeleton; the others stay zero.
Kernels of numba that read and write float32 or float64; sums over poses are formed of blocks of a fixed length,
and then in float64, so that results are bit-identical for any number of threads.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skelpipe.augment.cpu_kernels import kernel
from skelpipe.models.channel_kernels import BLOCK, in_parts

__all__ = ["EdgeList", "gathered", "takes"]


@dataclass(frozen=True)
class EdgeList:
    """The E edges of a graph [K, V, V] with entries [k, v, w] from joint v to joint w, in the order of (w, k, v).

    `entries`, int64[E], are their places in the flat graph. Edge e starts at joint `sources[e]`; those from
    `begins[w * K + k]` to `begins[w * K + k + 1]` end in neighbourhood k of joint w.
    """

    entries: Tensor
    sources: np.ndarray
    begins: np.ndarray

    @classmethod
    def of(cls, graph: Tensor) -> "EdgeList":
        """Return the edges of a graph, its entries that are not zero."""
        subsets, joints, _ = graph.shape
        w, k, v = np.nonzero(graph.numpy().transpose(2, 0, 1))
        begins = np.searchsorted(w * subsets + k, np.arange(joints * subsets + 1))
        return cls(torch.from_numpy((k * joints + v) * joints + w), v, begins)


def takes(x: Tensor) -> bool:
    """Return whether `gathered` can take these rows here: on a CPU, in full precision, and not to be traced."""
    return (
        type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
    )


def gathered(x: Tensor, weights: Tensor, edges: EdgeList) -> Tensor:
    """Return near[p, w, k] = sum over edges (k, v, w) of their weight * x[p, v]: poses [P, V, C] -> [P, V, K, C].

    `weights` is [E]. First derivatives only.
    """
    near: Tensor = _Gathered.apply(x.contiguous(), weights, edges)
    return near


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, edges: EdgeList) -> Tensor:
        poses, joints, channels = x.shape
        near = x.new_empty(poses, joints, (len(edges.begins) - 1) // joints, channels)
        rows = near.view(poses, -1, channels).numpy()
        in_parts(_gather, x.detach().numpy(), weights.detach().numpy(), edges.sources, edges.begins, rows)
        ctx.save_for_backward(x, weights)
        ctx.edges = edges
        return near

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weights = ctx.saved_tensors
        edges, channels = ctx.edges, x.shape[-1]
        slopes = torch.empty_like(x) if ctx.needs_input_grad[0] else x.new_empty(0, 0, channels)
        sums = np.zeros((-(-len(x) // BLOCK), len(edges.sources)))
        arrays = [each.detach().numpy() for each in (x, given.contiguous().flatten(1, 2), weights, slopes)]
        in_parts(_scatter, *arrays, edges.sources, edges.begins, sums)
        of_weights = torch.from_numpy(sums.sum(axis=0)).to(weights.dtype)
        return (slopes if ctx.needs_input_grad[0] else None), of_weights, None


@kernel
def _gather(
    low: int,
    high: int,
    x: np.ndarray,
    weights: np.ndarray,
    sources: np.ndarray,
    begins: np.ndarray,
    near: np.ndarray,
) -> None:
    poses, _, channels = x.shape
    for p in range(low * BLOCK, min(poses, high * BLOCK)):
        pose, rows = x[p], near[p]
        for i in range(len(begins) - 1):
            row, first, last = rows[i], begins[i], begins[i + 1]
            if first == last:
                for c in range(channels):
                    row[c] = 0
                continue
            weight, joint = weights[first], pose[sources[first]]
            for c in range(channels):
                row[c] = weight * joint[c]
            for e in range(first + 1, last):
                weight, joint = weights[e], pose[sources[e]]
                for c in range(channels):
                    row[c] += weight * joint[c]


@kernel
def _scatter(
    low: int,
    high: int,
    x: np.ndarray,
    given: np.ndarray,
    weights: np.ndarray,
    slopes: np.ndarray,
    sources: np.ndarray,
    begins: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Write the gradients of x to `slopes`, unless it is empty, and those of the weights to sums[block]."""
    poses, joints, channels = x.shape
    products = np.empty((len(sources), channels), x.dtype)
    for block in range(low, high):
        products[:] = 0
        for p in range(block * BLOCK, min(poses, (block + 1) * BLOCK)):
            pose, rows = x[p], given[p]
            for i in range(len(begins) - 1):
                row = rows[i]
                for e in range(begins[i], begins[i + 1]):
                    joint, product = pose[sources[e]], products[e]
                    for c in range(channels):
                        product[c] += joint[c] * row[c]
            if len(slopes):
                slope = slopes[p]
                for v in range(joints):
                    for c in range(channels):
                        slope[v, c] = 0
                for i in range(len(begins) - 1):
                    row = rows[i]
                    for e in range(begins[i], begins[i + 1]):
                        weight, towards = weights[e], slope[sources[e]]
                        for c in range(channels):
                            towards[c] += weight * row[c]
        for e in range(len(sources)):
            for c in range(channels):
                sums[block, e] += products[e, c]
