"""Which shards a stream of a dataset elsewhere reads next, and how many of them form a shuffle window."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from skelpipe.dataset.remote_rows import RemoteRows
from skelpipe.errors import UsageError
from skelpipe.loader.epoch_order import shard_groups

__all__ = ["Outlook", "default_window"]

HELD_BYTES = 8 * 10**9  # of shards, those read and those fetched ahead, whatever the cache would take
BEHIND = 4  # shards fetched ahead where the order is that of the rows


def default_window(views: Sequence[RemoteRows]) -> int | None:
    """Return how many shards are shuffled as one: all (None) where all fit, else half of what fits.

    While a window is read the next one is fetched, so two are held. The rows of all `views` are of one size. It
    depends on the dataset and the room given to the cache only. Raises UsageError where no two shards fit.
    """
    room = min(HELD_BYTES, views[0].capacity)
    if sum(view.total for view in views) <= room:
        return None
    largest = sum(view.largest for view in views)
    if 2 * largest > room:
        raise UsageError(
            f"--cache-size {room:,} bytes cannot hold two shards: at least {2 * largest:,} are needed"
        )
    return room // (2 * largest)


def check_window(views: Sequence[RemoteRows], window: int | None) -> None:
    """Raise UsageError where a window of so many shards, and the next one, cannot be held."""
    needed = sum(view.total for view in views)
    if window is not None:
        needed = min(needed, 2 * window * sum(view.largest for view in views))
    if needed > views[0].capacity:
        what = "all shards" if window is None else f"{window} shards"
        raise UsageError(
            f"a shuffle window of {what} needs {needed:,} bytes here, and --cache-size is {views[0].capacity:,}: "
            "name a larger one (with --cache, a folder with that much room)"
        )


class Outlook:
    """Tells the readers of a stream which shards its batches need and which come after."""

    def __init__(
        self,
        views: Sequence[RemoteRows],
        seed: int,
        sizes: NDArray[np.int64],
        window: int | None,
        *,
        shuffle: bool,
    ) -> None:
        self._views, self._seed, self._sizes, self._window, self._shuffle = views, seed, sizes, window, shuffle
        self._told: tuple[int, range, range] | None = None  # epoch, and where in it batches of the same shards lie
        self._epoch: tuple[int, list[NDArray[np.int64]], NDArray[np.int64]] | None = None

    def look(self, epoch: int, first: int, last: int) -> None:
        """Have the shards fetched that places `first` to `last` - 1 of the epoch's order need, and those after."""
        told = self._told
        if all(view.is_whole for view in self._views):
            return
        if told is not None and told[0] == epoch and first in told[1] and last - 1 in told[2]:
            return
        groups, ends = self._groups(epoch)
        low, high = np.searchsorted(ends, [first, last - 1], side="right").tolist()
        starts = [0, *ends.tolist()]
        self._told = epoch, range(starts[low], starts[low + 1]), range(starts[high], starts[high + 1])
        shards = dict.fromkeys(np.concatenate(groups[low : high + 1]).tolist())
        most = len(shards) + BEHIND
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
        for later in (self._groups(epoch)[0][group:], self._made(epoch + 1)):
            for shards in later:
                yield from shards.tolist()

    def _groups(self, epoch: int) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        if self._epoch is None or self._epoch[0] != epoch:
            groups = self._made(epoch)
            ends = np.cumsum([int(self._sizes[group].sum()) for group in groups])
            self._epoch = epoch, groups, ends
        return self._epoch[1:]

    def _made(self, epoch: int) -> list[NDArray[np.int64]]:
        count = len(self._sizes)
        if not self._shuffle:
            return [np.array([shard], np.int64) for shard in range(count)]
        return shard_groups(self._seed, epoch, count, self._window)
