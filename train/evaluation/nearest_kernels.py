"""The search for nearest neighbours on a CPU, query by query, where torch would sort and gather whole blocks.

Kernels of numba, compiled once and cached on disk; they release the GIL and use one core. Without fused
multiply-adds, so that a similarity has the same bits on every processor and device.
"""

from typing import Any

import numpy as np

from skelpipe.kernels import njit

__all__ = ["dots", "keep_near", "listed_dots"]

ROWS = 64  # bank rows that stay in the cache while all queries pass
GROUP = 64  # products that are compared with the bound at once

kernel = njit(cache=True, nogil=True, error_model="numpy")


@kernel
def keep_near(
    product: np.ndarray,
    first: int,
    window: float,
    greatest: np.ndarray,
    value: np.ndarray,
    index: np.ndarray,
    count: np.ndarray,
) -> None:
    """Keep, of bank rows `first`, `first` + 1, ..., those that may be among a query's k nearest.

    `product` [Q,n] holds their approximate similarities, `greatest` [Q,k] a heap of the k greatest so far, its
    least first. A row is kept in `value` and `index` [Q,W], in bank order, unless it is more than `window` below
    that least one; `count` [Q] rows are kept, or -1 where they are too many.
    """
    queries, rows = product.shape
    most = value.shape[1]
    for q in range(queries):
        kept = count[q]
        if kept < 0:
            continue
        heap, row = greatest[q], product[q]
        bound = np.float32(heap[0] - window)
        for low in range(0, rows, GROUP):
            high = min(low + GROUP, rows)
            if not _any_from(row[low:high], bound):
                continue
            for i in range(low, high):
                if not row[i] >= bound:
                    continue
                if row[i] > heap[0]:
                    _replace_least(heap, row[i])
                    bound = np.float32(heap[0] - window)
                if kept == most:
                    kept = _compact(value[q], index[q], kept, bound)
                    if 2 * kept > most:
                        kept = -1
                        break
                value[q, kept], index[q, kept] = row[i], first + i
                kept += 1
            if kept < 0:
                break
        count[q] = kept if kept < 0 else _compact(value[q], index[q], kept, bound)


@kernel
def _any_from(values: np.ndarray, bound: Any) -> bool:
    """Return whether a value is at least `bound`, without a branch per value."""
    found = np.int32(0)
    for i in range(len(values)):
        found |= np.int32(values[i] >= bound)
    return found != 0


@kernel
def _replace_least(heap: np.ndarray, value: Any) -> None:
    place, size = 0, len(heap)
    while True:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if child >= size or heap[child] >= value:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = value


@kernel
def _compact(value: np.ndarray, index: np.ndarray, count: int, bound: Any) -> int:
    kept = 0
    for i in range(count):
        if value[i] >= bound:
            value[kept], index[kept] = value[i], index[i]
            kept += 1
    return kept


@kernel
def listed_dots(
    queries: np.ndarray, rows: np.ndarray, index: np.ndarray, count: np.ndarray, out: np.ndarray
) -> None:
    """Write the dot product of query q and bank row index[q,i] to out[q,i], for i < count[q]."""
    products = np.empty(max(queries.shape[1], 1))
    for q in range(len(queries)):
        for i in range(count[q]):
            out[q, i] = _dot(queries[q], rows[index[q, i]], products)


@kernel
def dots(queries: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Write the dot products of queries [Q,D] and bank rows [N,D] to `out` [Q,N]."""
    products = np.empty(max(queries.shape[1], 1))
    for first in range(0, len(rows), ROWS):
        end = min(first + ROWS, len(rows))
        for q in range(len(queries)):
            for n in range(first, end):
                out[q, n] = _dot(queries[q], rows[n], products)


@kernel
def _dot(a: np.ndarray, b: np.ndarray, products: np.ndarray) -> float:
    """Return the sum of a[i] b[i], added by halves: the order of `nearest.dots`."""
    width = len(a)
    products[0] = 0.0
    for i in range(width):
        products[i] = a[i] * b[i]
    while width > 1:
        rest, width = width // 2, width - width // 2
        low, high = products[:rest], products[width : width + rest]
        for i in range(rest):
            low[i] += high[i]
    return products[0]
