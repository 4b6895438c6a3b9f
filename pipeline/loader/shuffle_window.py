"""Which shards a stream of a remote dataset reads next, and how many shards form a shuffle window."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from skelpipe.dataset.remote_rows import RemoteShards
from skelpipe.errors import UsageError
from skelpipe.loader.epoch_order import shard_groups

__all__ = ["UpcomingShards", "check_window", "default_window"]

HELD_BYTES = 8 * 10**9  # of shards being read or fetched ahead, at most, even where the cache has more room
AHEAD = 4  # shards fetched ahead without shuffling


def default_window(views: Sequence[RemoteShards]) -> int | None:
    """Return how many shards are shuffled together: all (None) if all fit, otherwise half of those that fit.

    While a window is read the next one is fetched, so two are held. All `views` have rows of one size. The result
    depends only on the dataset and the capacity of the cache. Raises UsageError if not even two shards fit.
    """
    capacity = min(HELD_BYTES, views[0].capacity)
    if sum(view.total for view in views) <= capacity:
        return None
    largest = sum(view.largest for view in views)
    if 2 * largest > capacity:
        raise UsageError(
            f"--cache-size {capacity:,} bytes cannot hold two shards: at least {2 * largest:,} are needed"
        )
    return capacity // (2 * largest)


def check_window(views: Sequence[RemoteShards], window: int | None) -> None:
    """Raise UsageError where a window of so many shards and the next one do not fit."""
    needed = sum(view.total for view in views)
    if window is not None:
        needed = min(needed, 2 * window * sum(view.largest for view in views))
    if needed > views[0].capacity:
        what = "all shards" if window is None else f"{window} shards"
        raise UsageError(
            f"a shuffle window of {what} needs {needed:,} bytes here, but --cache-size is {views[0].capacity:,}: "
            "name a larger one (with --cache, a folder with that much room)"
        )


class UpcomingShards:
    """Announces to the readers of a stream which shards its next batches need, so that they are fetched ahead."""

    def __init__(
        self,
        views: Sequence[RemoteShards],
        seed: int,
        sizes: NDArray[np.int64],
        window: int | None,
        *,
        shuffle: bool,
        sampled: Callable[[int], NDArray[np.int64]] | None = None,
    ) -> None:
        """Take `sizes` for the clips of each shard, or what `sampled` returns for an epoch."""
        self._views, self._seed, self._sizes, self._window, self._shuffle = views, seed, sizes, window, shuffle
        self._sampled = sampled
        # Epoch, and the ranges of the first and last positions of batches that need the shards expected now.
        self._current: tuple[int, range, range] | None = None
        self._epoch: tuple[int, list[NDArray[np.int64]], NDArray[np.int64]] | None = None

    def expect(self, epoch: int, first: int, last: int) -> None:
        """Fetch the shards of positions `first` to `last` - 1 of the epoch's order, and those that follow."""
        current = self._current
        if all(view.is_whole for view in self._views):
            return
        if current is not None and current[0] == epoch and first in current[1] and last - 1 in current[2]:
            return
        groups, ends = self._groups(epoch)
        low, high = np.searchsorted(ends, [first, last - 1], side="right").tolist()
        starts = [0, *ends.tolist()]
        self._current = epoch, range(starts[low], starts[low + 1]), range(starts[high], starts[high + 1])
        shards = dict.fromkeys(np.concatenate(groups[low : high + 1]).tolist())
        most = len(shards) + AHEAD
        if self._shuffle:
            most = max(len(shards), 2 * (self._window or len(self._sizes)))
        for shard in self._later(epoch, high + 1):
            if len(shards) >= min(most, len(self._sizes)):
                break
            shards[shard] = None
        for view in self._views:
            view.expect(tuple(shards))

    def _later(self, epoch: int, group: int) -> Iterator[int]:
        """Yield the shards from a group of an epoch to the end of the epoch after it."""
        for later in (self._groups(epoch)[0][group:], self._new_groups(epoch + 1)):
            for shards in later:
                yield from shards.tolist()

    def _groups(self, epoch: int) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        if self._epoch is None or self._epoch[0] != epoch:
            groups = self._new_groups(epoch)
            sizes = self._sizes if self._sampled is None else self._sampled(epoch)
            ends = np.cumsum([int(sizes[group].sum()) for group in groups])
            self._epoch = epoch, groups, ends
        return self._epoch[1:]

    def _new_groups(self, epoch: int) -> list[NDArray[np.int64]]:
        count = len(self._sizes)
        if not self._shuffle:
            return [np.array([shard], np.int64) for shard in range(count)]
        return shard_groups(self._seed, epoch, count, self._window)
