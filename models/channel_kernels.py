"""Sums over the rows of [R, C], one per channel, and what batch normalisation does with them, on a CPU.

Kernels of numba that read float32 and compute in float64, which costs nothing: reading takes longer. Rows are
summed in blocks of a fixed length, and then the blocks in their order, so that results are bit-identical for any
number of threads.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.cpu_kernels import kernel

__all__ = ["correlation", "moments", "scaled", "slope"]

BLOCK = 512  # rows
# With fewer numbers than this per thread, starting a thread takes longer than it saves.
SHARE = 1 << 16
WIDTH = 128  # of a row, in numbers


def moments(x: Tensor) -> Tensor:
    """Return the sums of x and of x squared, float64[2, C], of rows float32[R, C]."""
    return _summed(_moments, x.shape[1], _joined(x))


def correlation(x: Tensor, given: Tensor) -> Tensor:
    """Return the sums of `given` and of x times `given`, float64[2, C], of rows float32[R, C]."""
    return _summed(_correlation, x.shape[1], _joined(x), _joined(given))


def scaled(x: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    """Write scale * x + shift of rows float32[R, C] to `out`; `scale` and `shift` are float64[C]."""
    rows = _joined(x)
    times = rows.shape[1] // x.shape[1]
    _in_parts(_scaled, *_arrays(rows, _joined(out), scale.repeat(times), shift.repeat(times)))


def slope(x: Tensor, given: Tensor, weights: Tensor, out: Tensor) -> None:
    """Write weights[0] * given + weights[1] * x + weights[2], of rows float32[R, C], to `out`.

    `weights` is float64[3, C].
    """
    rows = _joined(x)
    times = rows.shape[1] // x.shape[1]
    _in_parts(_slope, *_arrays(rows, _joined(given), _joined(out), weights.repeat(1, times)))


def _summed(work: Callable[..., None], channels: int, *rows: Tensor) -> Tensor:
    count, width = rows[0].shape
    sums = np.zeros((-(-count // BLOCK), 2, width))
    _in_parts(work, *_arrays(*rows), sums)
    return torch.from_numpy(sums.reshape(len(sums), 2, -1, channels).sum(axis=(0, 2)))


def _joined(x: Tensor) -> Tensor:
    """Return rows of few channels with several of them in one: the kernels' inner loops run over a row."""
    rows, channels = x.shape
    return x.view(-1, channels * math.gcd(rows, 1 << max(0, (WIDTH // channels).bit_length() - 1)))


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors]


def _in_parts(work: Callable[..., None], x: np.ndarray, *others: np.ndarray) -> None:
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
def _moments(low: int, high: int, x: np.ndarray, sums: np.ndarray) -> None:
    rows, channels = x.shape
    for block in range(low, high):
        plain, square = sums[block, 0], sums[block, 1]
        end = min(rows, (block + 1) * BLOCK)
        quads = end - (end - block * BLOCK) % 4
        for r in range(block * BLOCK, quads, 4):  # four rows at once: the sums are loaded and stored less often
            x0, x1, x2, x3 = x[r], x[r + 1], x[r + 2], x[r + 3]
            for c in range(channels):
                a, b, d, e = np.float64(x0[c]), np.float64(x1[c]), np.float64(x2[c]), np.float64(x3[c])
                plain[c] += (a + b) + (d + e)
                square[c] += (a * a + b * b) + (d * d + e * e)
        for r in range(quads, end):
            for c in range(channels):
                a = np.float64(x[r, c])
                plain[c] += a
                square[c] += a * a


@kernel
def _correlation(low: int, high: int, x: np.ndarray, given: np.ndarray, sums: np.ndarray) -> None:
    rows, channels = x.shape
    for block in range(low, high):
        plain, along = sums[block, 0], sums[block, 1]
        end = min(rows, (block + 1) * BLOCK)
        quads = end - (end - block * BLOCK) % 4
        for r in range(block * BLOCK, quads, 4):
            x0, x1, x2, x3 = x[r], x[r + 1], x[r + 2], x[r + 3]
            g0, g1, g2, g3 = given[r], given[r + 1], given[r + 2], given[r + 3]
            for c in range(channels):
                a, b, d, e = np.float64(g0[c]), np.float64(g1[c]), np.float64(g2[c]), np.float64(g3[c])
                plain[c] += (a + b) + (d + e)
                along[c] += (a * x0[c] + b * x1[c]) + (d * x2[c] + e * x3[c])
        for r in range(quads, end):
            for c in range(channels):
                a = np.float64(given[r, c])
                plain[c] += a
                along[c] += a * x[r, c]


@kernel
def _scaled(low: int, high: int, x: np.ndarray, out: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> None:
    rows, channels = x.shape
    for r in range(low * BLOCK, min(rows, high * BLOCK)):
        row, y = x[r], out[r]
        for c in range(channels):
            y[c] = np.float32(row[c] * scale[c] + shift[c])


@kernel
def _slope(low: int, high: int, x: np.ndarray, given: np.ndarray, out: np.ndarray, weights: np.ndarray) -> None:
    rows, channels = x.shape
    direct, along, constant = weights[0], weights[1], weights[2]
    for r in range(low * BLOCK, min(rows, high * BLOCK)):
        row, g, y = x[r], given[r], out[r]
        for c in range(channels):
            y[c] = np.float32(g[c] * direct[c] + (row[c] * along[c] + constant[c]))
