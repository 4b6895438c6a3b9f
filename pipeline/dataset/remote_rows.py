"""Rows of remote shards, which are fetched before they are needed and released afterwards."""

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol

import numpy as np

from skelpipe.dataset.containers import map_rows
from skelpipe.dataset.gather import Pieces
from skelpipe.dataset.remote_files import RemoteFiles
from skelpipe.dataset.tar_shard import Geometry
from skelpipe.errors import UsageError
from skelpipe.front.arguments import require_rows
from skelpipe.storage.deadlines import result_of
from skelpipe.storage.worker_threads import WorkerThreads

__all__ = ["RemoteRows", "RemoteShards", "remote_subset"]

AHEAD = 4  # shards fetched after the last one read, where `expect` was not called


class RemoteShards(Protocol):
    """Shards that a stream announces before it reads them. Sizes in bytes; `capacity` may be local at a time."""

    capacity: int
    largest: int
    total: int

    @property
    def is_whole(self) -> bool: ...

    def expect(self, shards: Sequence[int]) -> None: ...


class RemoteRows:
    """Shards as one sequence of rows [n,D], like `Pieces`, of which only some shards are local at a time.

    `expect` says which shards come next. Without it, reading is taken to be sequential: the shards after the last
    one read are fetched ahead, and earlier ones are released. `is_whole` says that all shards are local. For use
    by one thread.
    """

    def __init__(
        self,
        threads: WorkerThreads,
        fetch: Callable[[int], np.ndarray],
        sizes: Sequence[int],
        dtype: np.dtype,
        capacity: int,
        row_bytes: int,
    ) -> None:
        """`fetch` returns the rows of a shard; `sizes` are the rows of each shard, `row_bytes` the bytes that
        a row takes in its shard, and `capacity` the bytes of shards that may be local at a time.
        """
        self._threads, self._fetch, self._dtype, self.capacity = threads, fetch, dtype, capacity
        self.largest, self.total = (row_bytes * n for n in (max(sizes, default=0), sum(sizes)))
        self._shards_at_once = max(1, capacity // max(1, self.largest))
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._expected: tuple[int, ...] | None = None
        self._futures: dict[int, Future[np.ndarray]] = {}
        weakref.finalize(self, _cancel, self._futures)
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._futures.clear()
        self._last = -1
        self._use([])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def expect(self, shards: Sequence[int]) -> None:
        """Fetch these shards in this order and keep them; release all others."""
        self._expected = tuple(shards)
        self._request(shards)

    def copy(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows, int64 [n], to `out` [n,D]; wait for shards that are not local yet.

        Raises IndexError for a row that is not there.
        """
        require_rows(rows, len(self))
        if not len(rows):
            return
        if self._pid != os.getpid():  # files that the parent process was fetching do not arrive in this one
            self._begin()
        if self.is_whole and self._expected is not None:  # a shortcut: nothing to fetch or release
            self._pieces.copy(rows, out)
            return
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        if self._is_open[shard].all() and (self._expected is not None or shard.max() == self._last):
            self._pieces.copy(rows + self._shift[shard], out)
            return
        needed = np.flatnonzero(np.bincount(shard)).tolist()
        for first in range(0, len(needed), self._shards_at_once):  # more may be needed than fit at once
            some = needed[first : first + self._shards_at_once]
            self._prepare(some)
            if len(some) == len(needed):
                self._pieces.copy(rows + self._shift[shard], out)
                return
            chosen = np.flatnonzero(np.isin(shard, some))
            part = np.empty((len(chosen), out.shape[1]), out.dtype)
            self._pieces.copy(rows[chosen] + self._shift[shard[chosen]], part)
            out[chosen] = part

    def _prepare(self, needed: list[int]) -> None:
        """Open these shards, and request those that come next."""
        for shard in needed:
            future = self._futures.get(shard)
            if future is not None and future.done() and not _succeeded(future):
                del self._futures[shard]  # it failed before it was needed: try again
        if self._expected is not None:
            self._request([*self._expected, *needed])
        else:
            self._last = needed[-1]
            self._request([*needed, *range(self._last + 1, min(self._last + 1 + AHEAD, len(self._starts) - 1))])
        if not self._is_open[needed].all():
            self._open_shards(needed)

    def _request(self, shards: Iterable[int]) -> None:
        requested = dict.fromkeys(shards)
        for gone in self._futures.keys() - requested:
            self._futures.pop(gone).cancel()
        kept = [shard for shard in np.flatnonzero(self._is_open).tolist() if shard in requested]
        if len(kept) < np.count_nonzero(self._is_open):  # release the others before new shards need the space
            self._use(kept)
        for new in requested:
            if new not in self._futures:
                self._futures[new] = self._threads.submit(partial(self._fetch, new))

    def _open_shards(self, needed: list[int]) -> None:
        for shard in needed:
            self._threads.run_next(self._futures[shard])
        for shard in needed:
            try:
                result_of(self._futures[shard])
            except BaseException:
                self._futures.pop(shard).cancel()  # the next call tries again
                raise
        self._use([shard for shard, future in self._futures.items() if _succeeded(future)])

    def _use(self, shards: Sequence[int]) -> None:
        """Copy rows from these fetched shards from now on."""
        shards = sorted(shards)  # if these are all shards, rows keep their numbers
        arrays = [self._futures[shard].result() for shard in shards]
        starts = np.cumsum([0, *map(len, arrays)])[:-1]
        self._pieces = Pieces(arrays, self._dtype)
        self._is_open = np.zeros(len(self._starts) - 1, bool)
        self._is_open[shards] = True
        self._shift = np.zeros(len(self._starts) - 1, np.int64)  # from rows of all shards to rows of open ones
        self._shift[shards] = starts - self._starts[shards]
        self.is_whole = bool(self._is_open.all())


def remote_subset(files: RemoteFiles, subset: str, geometry: Geometry, ids: Sequence[str]) -> RemoteRows:
    """Return the rows of one subset and view of a remote dataset; `ids` are those of the subset's samples.

    Raises UsageError where its clips are in HDF5 files only, which cannot be fetched in parts.
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
        content = files.map(name)  # first: the ids may still be on their way
        own = ids[ends[shard] - sizes[shard] : ends[shard]]
        return map_rows(content, geometry, own, f"{files.filesystem}/{name}")

    return RemoteRows(files.threads, fetch, sizes, np.dtype(geometry.dtype), files.size, geometry.stride)


def _cancel(futures: dict[int, "Future[np.ndarray]"]) -> None:
    for future in futures.values():
        future.cancel()


def _succeeded(future: "Future[np.ndarray]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
