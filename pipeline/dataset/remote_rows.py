"""Rows of shards that lie elsewhere: fetched before they are needed, and held only while they are."""

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial

import numpy as np

from skelpipe.dataset.containers import map_rows
from skelpipe.dataset.gather import Pieces
from skelpipe.dataset.remote_files import RemoteFiles
from skelpipe.dataset.tar_shard import Geometry
from skelpipe.errors import UsageError
from skelpipe.storage.deadlines import result_of
from skelpipe.storage.worker_threads import WorkerThreads

__all__ = ["RemoteRows", "remote_subset"]

AHEAD = 4  # shards fetched beyond the last one read, where no plan says what comes


class RemoteRows:
    """Shards as rows [n,D] that follow each other, like `Pieces`, of which only a part is here.

    Without a plan, reading goes on as it went: the shards behind the last one read are fetched ahead, and those
    read are let go. `expect` is the plan. `is_whole` says that all shards are here. Belongs to one thread.
    """

    def __init__(
        self,
        threads: WorkerThreads,
        fetch: Callable[[int], np.ndarray],
        sizes: Sequence[int],
        dtype: np.dtype,
        room: int,
        row_bytes: int,
    ) -> None:
        """`fetch` returns the rows of a shard, `sizes` are the rows in each, of `row_bytes` as they lie in it.

        `room` are the bytes that may be here at a time.
        """
        self._threads, self._fetch, self._dtype, self.room = threads, fetch, dtype, room
        self.largest, self.total = (row_bytes * n for n in (max(sizes, default=0), sum(sizes)))
        self._most = max(1, room // max(1, self.largest))
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._planned: tuple[int, ...] | None = None
        self._coming: dict[int, Future[np.ndarray]] = {}
        weakref.finalize(self, _let_go, self._coming)
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._coming.clear()
        self._last = -1
        self._show([])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def expect(self, shards: Sequence[int]) -> None:
        """Fetch these shards in this order and keep them; let go of all others."""
        self._planned = tuple(shards)
        self._want(shards)

    def copy(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows, int64 [n] within the range, to `out` [n,D]; waits for shards that are not here yet."""
        if not len(rows):
            return
        if self._pid != os.getpid():  # what a parent process was fetching never arrives here
            self._begin()
        if self.is_whole and self._planned is not None:  # nothing to look for
            self._pieces.copy(rows, out)
            return
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        if self._open[shard].all() and (self._planned is not None or shard.max() == self._last):
            self._pieces.copy(rows + self._shift[shard], out)
            return
        needed = np.flatnonzero(np.bincount(shard)).tolist()
        for first in range(0, len(needed), self._most):  # more than may be here at once
            some = needed[first : first + self._most]
            self._prepare(some)
            if len(some) == len(needed):
                self._pieces.copy(rows + self._shift[shard], out)
                return
            chosen = np.flatnonzero(np.isin(shard, some))
            part = np.empty((len(chosen), out.shape[1]), out.dtype)
            self._pieces.copy(rows[chosen] + self._shift[shard[chosen]], part)
            out[chosen] = part

    def _prepare(self, needed: list[int]) -> None:
        """Have these shards open, and go on fetching."""
        for shard in needed:
            coming = self._coming.get(shard)
            if coming is not None and coming.done() and not _is_here(coming):
                del self._coming[shard]  # it failed some time ago, before anybody needed it: another try
        if self._planned is not None:
            self._want([*self._planned, *needed])
        else:
            self._last = needed[-1]
            self._want([*needed, *range(self._last + 1, min(self._last + 1 + AHEAD, len(self._starts) - 1))])
        if not self._open[needed].all():
            self._open_shards(needed)

    def _want(self, shards: Iterable[int]) -> None:
        wanted = dict.fromkeys(shards)
        for gone in self._coming.keys() - wanted:
            self._coming.pop(gone).cancel()
        kept = [shard for shard in np.flatnonzero(self._open).tolist() if shard in wanted]
        if len(kept) < np.count_nonzero(self._open):  # let go of the others before their successors need the room
            self._show(kept)
        for new in wanted:
            if new not in self._coming:
                self._coming[new] = self._threads.submit(partial(self._fetch, new))

    def _open_shards(self, needed: list[int]) -> None:
        for shard in needed:
            self._threads.run_next(self._coming[shard])
        for shard in needed:
            try:
                result_of(self._coming[shard])
            except BaseException:
                self._coming.pop(shard).cancel()  # whoever asks again gets another try
                raise
        here = [shard for shard, coming in self._coming.items() if _is_here(coming)]
        self._show(here)

    def _show(self, shards: Sequence[int]) -> None:
        """Make these shards, which are here, the ones that rows are copied from."""
        shards = sorted(shards)  # all of them then have the rows they have here
        arrays = [self._coming[shard].result() for shard in shards]
        starts = np.cumsum([0, *map(len, arrays)])[:-1]
        self._pieces = Pieces(arrays, self._dtype)
        self._open = np.zeros(len(self._starts) - 1, bool)
        self._open[shards] = True
        self._shift = np.zeros(len(self._starts) - 1, np.int64)  # from a row of all shards to one of the open ones
        self._shift[shards] = starts - self._starts[shards]
        self.is_whole = bool(self._open.all())


def remote_subset(files: RemoteFiles, subset: str, geometry: Geometry, ids: Sequence[str]) -> RemoteRows:
    """Return the rows of one subset and view of a dataset elsewhere; `ids` are those of the subset's samples.

    Raises UsageError where its clips are in HDF5 files only, which have no parts that could be fetched alone.
    """
    if "shards" not in files.card["formats"]:
        raise UsageError(
            f"{files.filesystem}: holds its clips in HDF5 files only, which are read from a local disk: "
            "copy the dataset to one first (skelpipe copy)"
        )
    shards = files.card["splits"][subset]["shards"]
    sizes = [shard["samples"] for shard in shards]
    ends = np.cumsum(sizes).tolist()

    def fetch(shard: int) -> np.ndarray:
        name = f"{subset}/{geometry.view}/{shards[shard]['name']}.tar"
        own = ids[ends[shard] - sizes[shard] : ends[shard]]
        return map_rows(files.map(name), geometry, own, f"{files.filesystem}/{name}")

    return RemoteRows(files.threads, fetch, sizes, np.dtype(geometry.dtype), files.size, geometry.stride)


def _let_go(coming: dict[int, "Future[np.ndarray]"]) -> None:
    for future in coming.values():
        future.cancel()


def _is_here(coming: "Future[np.ndarray]") -> bool:
    return coming.done() and not coming.cancelled() and coming.exception() is None
