"""Rows read by webdataset, the library: whole shards, from first to last, of which some are held in memory.

So compressed shards, and those at addresses where only whole files can be read, have rows too.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from skelpipe.errors import DatasetError

__all__ = ["WINDOW_BYTES", "WebRows", "shards_at_once"]

WINDOW_BYTES = 1 << 30  # of clips in memory that are shuffled together


def shards_at_once(sizes: np.ndarray, shape: Sequence[int]) -> int | None:
    """Return how many shards of so many clips [C,T,V,M] have WINDOW_BYTES together; None where all of them fit."""
    clip = 4 * int(np.prod(shape))
    if int(sizes.sum()) * clip <= WINDOW_BYTES:
        return None
    return max(1, WINDOW_BYTES // max(1, int(sizes.max()) * clip))


class WebRows:
    """All clips of one subset and view as rows, like `skelpipe.dataset.Reader`. For use by one thread.

    `pipeline` returns the samples of some shards, by number; `at_once` is the number of shards that are shuffled
    together, of which up to twice as many are held.
    """

    remote = None

    def __init__(
        self,
        pipeline: Callable[[Sequence[int]], Iterable[dict[str, Any]]],
        sizes: np.ndarray,
        shape: Sequence[int],
        view: str,
        at_once: int | None,
    ) -> None:
        self.shape = tuple(shape)
        self._pipeline, self._member, self._at_once = pipeline, f"{view}.npy", at_once
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def mapped(self, rows: np.ndarray) -> None:
        """Return None: a tar that is read from first to last is not mapped."""

    def confirm(self) -> None:
        """Do nothing: whole shards are read at once."""

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy these rows (int64 [n], any order) into `out`, float32 [n,C,T,V,M], a new array if not given."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows go from 0 to {len(self) - 1}")
        if out is None:
            out = np.empty((len(rows), *self.shape), np.float32)
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        wanted = np.unique(shards).tolist()
        for shard in wanted:
            if shard in self._held:
                self._held.move_to_end(shard)
        for shard in wanted:
            here = shards == shard
            out[here] = self._clips(shard)[rows[here] - self._starts[shard]]
        return out

    def _clips(self, shard: int) -> np.ndarray:
        """Return the clips of a shard, read if they are not held; those used longest ago are let go."""
        if shard not in self._held:
            while self._at_once is not None and len(self._held) >= 2 * self._at_once:
                self._held.popitem(last=False)
            first, end = self._starts[shard : shard + 2].tolist()
            clips = np.empty((end - first, *self.shape), np.float32)
            found = np.zeros(end - first, bool)
            for sample in self._pipeline([shard]):
                row = sample["index"] - first
                clips[row], found[row] = sample[self._member], True
            if not found.all():
                raise DatasetError(f"shard {shard} has {found.sum()} samples, {end - first} are expected")
            self._held[shard] = clips
        return self._held[shard]
