"""The order of an epoch: a pure function of the seed, the epoch, the shard sizes and the window.

Rows are sorted by a hash of their numbers. Many rows are first distributed by its upper bits, block by block, so
that beside the order itself no array is as long as the epoch.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from skelpipe.errors import UsageError

__all__ = ["epoch_order", "epoch_plan", "rank_share", "scramble", "shard_groups"]

Words: TypeAlias = NDArray[np.uint64]

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: the odd step of a Weyl sequence
SHARDS, ROWS = 1, 2  # different draws for shards and for rows
BLOCK = 1 << 17  # rows hashed at a time; as many are sorted at once
BUCKETS = 256


def epoch_order(
    seed: int,
    epoch: int,
    shard_sizes: Sequence[int] | NDArray[np.integer],
    window: int | None = None,
    sampled: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the row numbers of one epoch, int64[N]: a permutation of 0..N-1, N the sum of `shard_sizes`.

    Rows are numbered from shard to shard in the given order. The shards are permuted, `window` of them at a time
    form a group, and rows are permuted within each group; `None` means one group of all shards, that is a
    permutation of all rows. The random numbers come from a hash of our own, so the order is the same under every
    version of numpy. It does not depend on ranks, workers or batches. `sampled`, occurrences of rows (see
    `skelpipe.loader.sampling`), are ordered in the same way instead of every row once.

    Raises UsageError when `window` is less than 1 or a shard size is negative.
    """
    return epoch_plan(seed, epoch, shard_sizes, window, sampled).astype(np.int64)


def epoch_plan(
    seed: int,
    epoch: int,
    shard_sizes: Sequence[int] | NDArray[np.integer],
    window: int | None = None,
    sampled: NDArray[np.int64] | None = None,
) -> NDArray[np.integer]:
    """Return the order of `epoch_order`: int32[N] where that is wide enough and nothing is sampled, else int64[N].

    Beside it, some megabytes of memory are used.
    """
    sizes = np.asarray(shard_sizes, dtype=np.int64)
    if window is not None and window < 1:
        raise UsageError(f"the shuffle window is {window} shards; it must be at least 1, or None for all")
    if (sizes < 0).any():
        raise UsageError(f"a shard cannot hold {sizes.min()} samples")
    total = int(sizes.sum())
    if sampled is not None:
        return _sampled_order(seed, epoch, sizes, window, sampled)
    order: NDArray[np.integer] = np.empty(total, np.int32 if total <= np.iinfo(np.int32).max else np.int64)
    if window is None or window >= len(sizes):
        _sort_by_hash(seed, epoch, partial(_spans, [(0, total)]), order)
        return order
    ends = np.cumsum(sizes)
    filled = 0
    for group in shard_groups(seed, epoch, len(sizes), window):
        own = list(zip((ends - sizes)[group].tolist(), ends[group].tolist(), strict=True))
        rows = sum(end - start for start, end in own)
        _sort_by_hash(seed, epoch, partial(_spans, own), order[filled : filled + rows])
        filled += rows
    return order


def _spans(spans: Sequence[tuple[int, int]]) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of all spans in blocks."""
    waiting: list[NDArray[np.int64]] = []
    held = 0
    for start, end in spans:
        for first in range(start, end, BLOCK):
            part = np.arange(first, min(first + BLOCK, end))
            if held + len(part) > BLOCK:
                yield np.concatenate(waiting)
                waiting, held = [], 0
            waiting.append(part)
            held += len(part)
    if waiting:
        yield np.concatenate(waiting)


def _sort_by_hash(
    seed: int, epoch: int, blocks: Callable[[], Iterator[NDArray[np.int64]]], out: NDArray[np.integer]
) -> None:
    """Write the rows of all `blocks()` into `out`, sorted by their hashes.

    `scramble` is one to one, so no two rows have the same hash, and every way of sorting gives the same order.
    """

    def keys(rows: NDArray[np.integer]) -> Words:
        return scramble(seed, (epoch, ROWS), rows.astype(np.int64, copy=False))

    if len(out) <= BLOCK:
        for rows in blocks():
            out[:] = rows[np.argsort(keys(rows))]
        return
    counts = np.zeros(BUCKETS, np.int64)
    for rows in blocks():
        counts += np.bincount(_bucket(keys(rows)), minlength=BUCKETS)
    ends = np.cumsum(counts)
    free = ends - counts
    for rows in blocks():
        bucket = _bucket(keys(rows))
        found = np.bincount(bucket, minlength=BUCKETS)
        places = np.arange(len(rows)) + np.repeat(free - (np.cumsum(found) - found), found)
        out[places] = rows[np.argsort(bucket, kind="stable")]
        free += found
    for start, end in zip((ends - counts).tolist(), ends.tolist(), strict=True):
        held = out[start:end]
        out[start:end] = held[np.argsort(keys(held))]


def _bucket(keys: Words) -> NDArray[np.uint8]:
    return (keys >> np.uint64(64 - 8)).astype(np.uint8)


def _sampled_order(
    seed: int, epoch: int, sizes: NDArray[np.int64], window: int | None, sampled: NDArray[np.int64]
) -> NDArray[np.int64]:
    place = np.empty(len(sizes), np.int64)  # of each shard's group
    for number, group in enumerate(shard_groups(seed, epoch, len(sizes), window)):
        place[group] = number
    ends = np.cumsum(sizes)
    shard = np.searchsorted(ends, sampled % max(int(ends[-1]), 1), side="right")
    return sampled[np.lexsort((_hash(seed, epoch, ROWS, len(sampled)), place[shard]))]


def shard_groups(seed: int, epoch: int, shards: int, window: int | None = None) -> list[NDArray[np.int64]]:
    """Return the shards of each group of an epoch, in the order of `epoch_order`."""
    if window is None or window >= shards:
        return [np.arange(shards, dtype=np.int64)]
    order = np.argsort(_hash(seed, epoch, SHARDS, shards), kind="stable")
    return [order[first : first + window] for first in range(0, shards, window)]


def rank_share(size: int, rank: int, world: int) -> range:
    """Return which of `size` consecutive items, such as the clips of a batch, belong to a rank of `world`."""
    return range(size * rank // world, size * (rank + 1) // world)


def _hash(seed: int, epoch: int, purpose: int, count: int) -> Words:
    """Hash (seed, epoch, purpose, i) for i in 0..count-1 to uint64[count]."""
    return scramble(seed, (epoch, purpose), np.arange(count, dtype=np.int64))


def scramble(seed: int, words: Sequence[int | NDArray[np.int64]], numbers: NDArray[np.int64]) -> Words:
    """Hash (seed, *words, number) to 64 random bits for each of `numbers`, uint64[n].

    Each word is one number, or int64[n].
    """
    key = np.zeros(1, dtype=np.uint64)
    for word in (seed, *words):
        if isinstance(word, np.ndarray):
            key = _mix(key + (word.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN))
        else:
            key = _mix(key + np.uint64((word + 1) * GOLDEN & MASK))
    return _mix(_mix((numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)) ^ key)


def _mix(z: Words) -> Words:
    """Scramble 64-bit words one to one (the finaliser of SplitMix64: Steele, Lea and Flood, OOPSLA 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
