"""The arithmetic of batch normalisation on a CPU: sums over rows [R, C], and what follows from them for each row.

Kernels of numba that read float32 and compute in float64, which costs nothing: reading takes longer. Rows are
summed in blocks of a fixed length, and then the blocks in their order, so that results are bit-identical for any
number of threads.

Rows of few channels are taken k at a time, as rows of width W = k C (joined), which makes the inner loops long
enough. Factors of rows, float64[2 or 3, W], then repeat k times.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from skelpipe.augment.cpu_kernels import kernel

__all__ = [
    "centre",
    "correlation",
    "in_parts",
    "joined_width",
    "line",
    "moments",
    "move",
    "scaled",
    "slope",
    "statistics",
    "summed",
    "tangent",
]

BLOCK = 512  # rows
WIDTH = 128  # of a row, in numbers, where its channels are fewer
# With fewer numbers than this per thread, starting a thread takes longer than it saves.
SHARE = 1 << 16


@lru_cache(maxsize=256)
def joined_width(numbers: int, channels: int) -> int:
    """Return the width W of joined rows of that many numbers in all."""
    together = 1 << max(0, (WIDTH // channels).bit_length() - 1)
    return channels * math.gcd(numbers // channels, together)


def moments(x: np.ndarray, channels: int) -> np.ndarray:
    """Return the sums of x and of x squared, float64[2, C]; x is joined."""
    return summed(_moments, channels, x)


def correlation(x: np.ndarray, given: np.ndarray, channels: int) -> np.ndarray:
    """Return the sums of `given` and of x times `given`, float64[2, C]; both are joined."""
    return summed(_correlation, channels, x, given)


def scaled(x: np.ndarray, factors: np.ndarray, out: np.ndarray) -> None:
    """Write factors[0] * x + factors[1] to `out`; all are joined."""
    in_parts(_scaled, x, out, factors)


def slope(x: np.ndarray, given: np.ndarray, factors: np.ndarray, out: np.ndarray) -> None:
    """Write factors[0] * given + factors[1] * x + factors[2] to `out`; all are joined."""
    in_parts(_slope, x, given, out, factors)


@kernel
def statistics(sums: np.ndarray, count: float, eps: float) -> np.ndarray:
    """Return mean, biased variance and 1 / deviation, float64[3, C], of the moments of `count` rows."""
    found = np.empty((3, sums.shape[1]))
    for c in range(sums.shape[1]):
        mean = sums[0, c] / count
        variance = max(sums[1, c] / count - mean * mean, 0.0)
        found[0, c], found[1, c], found[2, c] = mean, variance, 1 / math.sqrt(variance + eps)
    return found


@kernel
def move(running: np.ndarray, new: np.ndarray, step: float, factor: float) -> None:
    """Move running statistics float32[C] by the share `step` towards `factor` times the new ones, float64[C]."""
    for c in range(len(running)):
        before = np.float64(running[c])
        running[c] = np.float32(before + step * (factor * new[c] - before))


@kernel
def line(found: np.ndarray, weight: np.ndarray, bias: np.ndarray, width: int) -> np.ndarray:
    """Return the factors of `scaled` for (x - mean) / deviation * weight + bias."""
    factors = np.empty((2, width))
    channels = found.shape[1]
    for i in range(width):
        c = i % channels
        factors[0, i] = found[2, c] * weight[c]
        factors[1, i] = bias[c] - found[0, c] * factors[0, i]
    return factors


@kernel
def centre(found: np.ndarray, sums: np.ndarray) -> None:
    """Make of the sums of g and x g those of g and (x - mean) / deviation g, in place."""
    for c in range(sums.shape[1]):
        sums[1, c] = (sums[1, c] - found[0, c] * sums[0, c]) * found[2, c]


@kernel
def tangent(found: np.ndarray, weight: np.ndarray, sums: np.ndarray, count: float, width: int) -> np.ndarray:
    """Return the factors of `slope` for the gradient of x, from the sums that `centre` leaves.

    It is (g - sums[0] / count - (x - mean) / deviation * sums[1] / count) * weight / deviation.
    """
    factors = np.empty((3, width))
    channels = found.shape[1]
    for i in range(width):
        c = i % channels
        factors[0, i] = found[2, c] * weight[c]
        factors[1, i] = -factors[0, i] * found[2, c] * sums[1, c] / count
        factors[2, i] = -factors[0, i] * sums[0, c] / count - factors[1, i] * found[0, c]
    return factors


def summed(work: Callable[..., None], channels: int, *rows: Any) -> np.ndarray:
    """Return two sums per channel, float64[2, C], that `work` forms of blocks of joined rows."""
    count, width = rows[0].shape
    sums = np.zeros((-(-count // BLOCK), 2, width))
    in_parts(work, *rows, sums)
    whole: np.ndarray = _folded(sums, channels)
    return whole


def in_parts(work: Callable[..., None], x: np.ndarray, *others: Any) -> None:
    """Call `work` for all blocks of rows, on as many threads as torch uses."""
    blocks = -(-len(x) // BLOCK)
    threads = min(torch.get_num_threads(), blocks, x.size // SHARE)
    if threads <= 1:
        work(0, blocks, x, *others)
        return
    bounds = [blocks * part // threads for part in range(threads + 1)]
    pool = _pool(os.getpid(), threads - 1)
    tasks = [pool.submit(work, low, high, x, *others) for low, high in pairwise(bounds[1:])]
    work(0, bounds[1], x, *others)
    for task in tasks:
        task.result()


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads of this process: a forked one has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"skelpipe-channels-{process}")


@kernel
def _folded(sums: np.ndarray, channels: int) -> np.ndarray:
    whole = np.zeros((2, channels))
    for block in range(len(sums)):
        for i in range(sums.shape[2]):
            whole[0, i % channels] += sums[block, 0, i]
            whole[1, i % channels] += sums[block, 1, i]
    return whole


@kernel
def _moments(low: int, high: int, x: np.ndarray, sums: np.ndarray) -> None:
    rows, width = x.shape
    for block in range(low, high):
        plain, square = sums[block, 0], sums[block, 1]
        for r in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            row = x[r]  # one after another: several at once are read more slowly
            for c in range(width):
                a = np.float64(row[c])
                plain[c] += a
                square[c] += a * a


@kernel
def _correlation(low: int, high: int, x: np.ndarray, given: np.ndarray, sums: np.ndarray) -> None:
    rows, width = x.shape
    for block in range(low, high):
        plain, along = sums[block, 0], sums[block, 1]
        for r in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            row, g = x[r], given[r]
            for c in range(width):
                a = np.float64(g[c])
                plain[c] += a
                along[c] += a * row[c]


@kernel
def _scaled(low: int, high: int, x: np.ndarray, out: np.ndarray, factors: np.ndarray) -> None:
    rows, width = x.shape
    scale, shift = factors[0], factors[1]
    for r in range(low * BLOCK, min(rows, high * BLOCK)):
        row, y = x[r], out[r]
        for c in range(width):
            y[c] = np.float32(row[c] * scale[c] + shift[c])


@kernel
def _slope(low: int, high: int, x: np.ndarray, given: np.ndarray, out: np.ndarray, factors: np.ndarray) -> None:
    rows, width = x.shape
    direct, along, constant = factors[0], factors[1], factors[2]
    for r in range(low * BLOCK, min(rows, high * BLOCK)):
        row, g, y = x[r], given[r], out[r]
        for c in range(width):
            y[c] = np.float32(g[c] * direct[c] + (row[c] * along[c] + constant[c]))
