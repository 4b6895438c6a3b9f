"""Which clips an epoch has, and how often, where that is not each of them once.

Clips form groups: those of a class, or those of a dataset. Each group has an endless sequence of its clips, one
permutation after the other, and each epoch takes the next part of every group's sequence. So no clip comes again
before all others of its group came, over all epochs. Everything is a function of seed and epoch.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from skelpipe.errors import UsageError
from skelpipe.loader.epoch_order import scramble

__all__ = ["Sampling", "balanced", "weighted"]

Numbers: TypeAlias = NDArray[np.int64]

GROUPS = 3  # draws other than those of the order of an epoch


class Sampling:
    """The clips of each epoch: `count` of them, some perhaps several times.

    An occurrence is the number row + k * rows of a clip that came k times before in its epoch, where `rows` is the
    number of all clips.
    """

    def __init__(self, group: Numbers, count: int, taken: Callable[[int], Numbers]) -> None:
        """Let `group`, int64[rows], be the group of each clip, numbered from 0 without gaps.

        `taken(epoch)` is how many clips of each group, int64[G], all epochs before `epoch` took together.
        """
        self.rows, self.count = len(group), count
        self._sizes = np.bincount(group).astype(np.int64)
        self._members = np.argsort(group, kind="stable")
        self._first = np.cumsum(self._sizes) - self._sizes
        self._taken = taken

    def occurrences(self, seed: int, epoch: int) -> Numbers:
        """Return the occurrences of an epoch, int64[count], in no order that means anything."""
        start, stop = self._taken(epoch), self._taken(epoch + 1)
        first = start // self._sizes
        permutations = np.where(stop > start, -(-stop // self._sizes) - first, 0)  # of each group, begun or whole
        group = np.repeat(np.arange(len(start)), permutations)
        number = _counted(permutations) + first[group]
        size = self._sizes[group]
        of = np.repeat(np.arange(len(group)), size)  # the permutation of each candidate
        place = _counted(size)
        keys = scramble(seed, (GROUPS, group[of], number[of]), place)
        chosen = place[np.lexsort((keys, of))]
        position = number[of] * size[of] + place
        inside = (position >= start[group[of]]) & (position < stop[group[of]])
        rows = self._members[(self._first[group[of]] + chosen)[inside]]
        return rows + self.rows * _times_before(rows)


def balanced(labels: Numbers) -> Sampling:
    """Return the sampling that draws all classes equally often, by each clip's label, int64[N].

    An epoch has N clips. Classes take turns, also from epoch to epoch, so their counts differ by one at most.
    Classes without a clip are left out. Raises UsageError for clips without a label.
    """
    if len(labels) and labels.min() < 0:
        raise UsageError("class-balanced sampling needs labels, and there are clips without one")
    present, group = np.unique(labels, return_inverse=True)
    turn = np.arange(len(present), dtype=np.int64)
    return Sampling(
        group.astype(np.int64), len(labels), lambda epoch: -((turn - epoch * len(labels)) // len(present))
    )


def weighted(counts: Sequence[int], weights: Sequence[float]) -> Sampling:
    """Return the sampling of datasets of `counts` clips whose clips come `weights` times per epoch on average.

    A dataset of n clips with the weight w gives round(w * n) clips to every epoch. Raises UsageError where that is
    none although it has clips.
    """
    per_epoch = np.array([round(weight * count) for weight, count in zip(weights, counts, strict=True)], np.int64)
    for count, weight, quota in zip(counts, weights, per_epoch.tolist(), strict=True):
        if count and not quota:
            raise UsageError(f"a weight of {weight:g} leaves no clip of a dataset with {count}")
    held = np.flatnonzero(np.asarray(counts))
    group = np.repeat(np.arange(len(held)), np.asarray(counts, np.int64)[held])
    return Sampling(group, int(per_epoch.sum()), lambda epoch: per_epoch[held] * epoch)


def _counted(sizes: Numbers) -> Numbers:
    """Return 0, 1, ... for each of `sizes`, one after the other: int64[sum of sizes]."""
    counted: Numbers = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return counted


def _times_before(rows: Numbers) -> Numbers:
    """Return how often each number occurs before its place, int64[n]."""
    order = np.argsort(rows, kind="stable")
    _, sizes = np.unique(rows, return_counts=True)
    times = np.empty_like(rows)
    times[order] = _counted(sizes)
    return times
