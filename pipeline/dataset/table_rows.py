"""Ids and labels of a dataset's subsets, from its sample table, whose rows must be those of the digest.

A table of up to AT_ONCE rows is read and hashed when it is first needed. Of a longer one only the columns that say
which clip is where are read then; its ids are read, and its rows hashed, on a thread, so that opening takes no
longer. Who takes ids or labels, or reads a clip, waits for it. That a file's rows are those of a digest holds for
ever, so it is remembered by the file's sha256, and the rows, short table or long, are hashed once per machine and
user.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skelpipe.dataset.arrow_values import text, texts, whole
from skelpipe.dataset.card import SAMPLES, parse_samples, require_file, rows_differ, table_batches
from skelpipe.dataset.first_use import at_end, is_ending, remember, remembered
from skelpipe.errors import DatasetError, SkelpipeError
from skelpipe.manifest import SUBSETS
from skelpipe.storage.deadlines import result_of

__all__ = ["SubsetIds", "TableRows"]

AT_ONCE = 1 << 18  # rows
PLACES = ["label", "split", "shard", "row"]


class SubsetIds(Sequence[str]):
    """The ids of some clips, in arrow's memory; `found` returns all of the subset when the first is needed."""

    def __init__(self, found: Callable[[], pa.ChunkedArray], rows: range) -> None:
        self._found, self._rows = found, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> "SubsetIds": ...
    def __getitem__(self, at: int | slice) -> "str | SubsetIds":
        if isinstance(at, slice):
            return SubsetIds(self._found, self._rows[at])
        id_: str = self._found()[self._rows[at]].as_py()
        return id_

    def __iter__(self) -> Iterator[str]:
        yield from self.texts()

    def require(self) -> None:
        """Read the ids if that was not done; DatasetError where they are not the card's."""
        self._found()

    def texts(self) -> list[str]:
        rows = self._rows
        found: list[str] = self._found().slice(rows.start, len(rows)).to_pylist()
        return found


class TableRows:
    """The sample table in the bytes `content`, of the dataset of `card`, called `where` in messages.

    Raises DatasetError where it is not the card's table; of a long one that its rows are others, in `require`.
    """

    def __init__(self, content: bytes, card: Mapping[str, Any], where: object) -> None:
        self._where = where
        self._later: _Later | None = None
        if card["samples"]["rows"] <= AT_ONCE:
            table = _read_at_once(content, card, where)
            self._ids: Callable[[], pa.ChunkedArray] = partial(table.column, "id")
        else:
            require_file(content, card, where)
            table = pa.Table.from_batches(list(table_batches(content, card, where, PLACES)))
            self._later = _Later(content, card, where)
            self._ids = self._later.ids
        self._subsets = {subset: self._subset(table, subset, card) for subset in SUBSETS}

    @property
    def is_pending(self) -> bool:
        """Whether ids are still read, or rows hashed."""
        return self._later is not None and not self._later.is_done

    def require(self) -> None:
        """Wait until the rows are hashed; DatasetError where they are not those of the digest."""
        if self._later is not None:
            self._later.ids()

    def subset(self, subset: str) -> tuple[SubsetIds, np.ndarray]:
        """Return ids and labels, int64[N], of a subset's clips by row; DatasetError where the card contradicts."""
        found = self._subsets[subset]
        if isinstance(found, DatasetError):
            raise found
        if self._later is None:
            found[0].require()
        return found

    def _subset(
        self, table: pa.Table, subset: str, card: Mapping[str, Any]
    ) -> tuple[SubsetIds, np.ndarray] | DatasetError:
        shards, classes = card["splits"][subset]["shards"], len(card["classes"])
        sizes = np.array([shard["samples"] for shard in shards], np.int64)
        count = int(sizes.sum())
        inside = pc.and_(pc.equal(table["split"], text(subset)), pc.is_valid(table["shard"]))
        own = table.select(PLACES).filter(inside)
        names = texts(shard["name"] for shard in shards)
        shard, row = _numbers(pc.index_in(own["shard"], names)), _numbers(own["row"])
        label = _numbers(own["label"])
        unlabelled = _numbers(own["label"].is_null()).astype(bool)
        known = (shard >= 0) & (row >= 0)
        known[known] = row[known] < sizes[shard[known]]
        if classes:
            known &= unlabelled | ((label >= 0) & (label < classes))
        if not known.all():
            return self._wrong(subset)
        order = np.full(count, -1, np.int64)
        order[(np.cumsum(sizes) - sizes)[shard] + row] = np.arange(len(shard))
        if (order < 0).any() or (classes and unlabelled[order].any()):
            return self._lacking(subset)
        in_order = len(shard) == count and bool((order == np.arange(count)).all())

        def chosen() -> pa.ChunkedArray:
            ids = self._ids().filter(inside)
            if ids.null_count:
                raise self._wrong(subset)
            if pc.any(pc.equal(ids, text(""))).as_py():
                raise self._lacking(subset)
            return ids if in_order else ids.take(pa.array(order))

        return SubsetIds(_Once(chosen), range(count)), np.where(unlabelled, -1, label)[order]

    def _wrong(self, subset: str) -> DatasetError:
        return DatasetError(
            f"{self._where}/{SAMPLES}: a {subset} sample has a shard, row or label, or no id, that the"
            " card does not allow"
        )

    def _lacking(self, subset: str) -> DatasetError:
        return DatasetError(f"{self._where}/{SAMPLES}: lists fewer {subset} samples than the card")


def _read_at_once(content: bytes, card: Mapping[str, Any], where: object) -> pa.Table:
    """Return ids and places of all rows; DatasetError where the rows are not the card's."""
    columns, fact = ["id", *PLACES], _fact(card)
    if fact in remembered(card["digest"]):
        require_file(content, card, where)
        return pa.Table.from_batches(list(table_batches(content, card, where, columns)))
    table = parse_samples(content, card, where, columns)
    remember(card["digest"], [fact])
    return table


def _fact(card: Mapping[str, Any]) -> str:
    """Return what is remembered of a table once its rows were found to be those of the digest."""
    return f"rows {card['samples_file']['sha256']} {card['samples']['sha256']}"


class _Once:
    """What `find` returns, found when it is first needed; for any thread, also of a process forked meanwhile."""

    def __init__(self, find: Callable[[], pa.ChunkedArray]) -> None:
        self._find: Callable[[], pa.ChunkedArray] | None = find
        self._pid, self._lock = os.getpid(), threading.Lock()

    def __call__(self) -> pa.ChunkedArray:
        if self._pid != os.getpid():  # who held the lock stayed with the parent
            self._pid, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            find = self._find
            if find is not None:
                self._found = find()
                self._find = None  # and what it holds
            return self._found


class _Later:
    """The ids of a long table, and the comparison of its rows with the digest, on a thread of this process."""

    def __init__(self, content: bytes, card: Mapping[str, Any], where: object) -> None:
        self._content, self._card, self._where = content, card, where
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._future: Future[pa.ChunkedArray] = Future()
        thread = threading.Thread(target=self._work, name="skelpipe-table", daemon=True)
        thread.start()
        at_end(thread)

    @property
    def is_done(self) -> bool:
        return self._future.done()

    def ids(self) -> pa.ChunkedArray:
        """Return all ids of the table, in the order of its rows, once it is known to be the card's."""
        if not self.is_done and self._pid != os.getpid():  # the thread stayed with the parent
            self._begin()
        return result_of(self._future)

    def _work(self) -> None:
        try:
            self._future.set_result(self._read())
        except BaseException as error:
            self._future.set_exception(error)
        self._content = b""

    def _read(self) -> pa.ChunkedArray:
        card, fact = self._card, _fact(self._card)
        is_known = fact in remembered(card["digest"])
        columns = ["id"] if is_known else card["samples"]["columns"]
        ids = []

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in table_batches(self._content, card, self._where, columns):
                if is_ending():
                    raise SkelpipeError(f"{self._where}/{SAMPLES}: the process ends while it is read")
                ids.append(batch.column("id"))
                yield batch

        if is_known:
            for _ in batches():
                pass
        else:
            if (problem := rows_differ(batches(), card, self._where)) is not None:
                raise DatasetError(problem)
            remember(card["digest"], [fact])
        return pa.chunked_array(ids, pa.string())


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers as int64, -1 where there is none."""
    filled = column.cast(pa.int64()).fill_null(whole(-1))
    parts = [  # to_numpy would import pandas
        np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in filled.chunks
        if len(chunk)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])
