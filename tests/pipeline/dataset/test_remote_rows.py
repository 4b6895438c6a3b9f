"""Rows of remote shards: a few shards are held at a time, and a failed fetch is repeated when needed."""

import threading
import weakref
from typing import Any

import numpy as np

from skelpipe.dataset import Dataset, remote_files, remote_rows
from skelpipe.loader.epoch_order import shard_groups
from skelpipe.loader.stream import Stream

SHARDS = 8  # of the train subset


def test_a_shard_that_could_not_be_fetched_ahead_is_fetched_when_it_is_needed(
    web, server, fault, wait_until
) -> None:
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=1)
    second = int(shard_groups(0, 0, SHARDS, 1)[1][0])
    server.faults[server.shard(second)] = [fault("status", 5)]
    batches = iter(stream)
    next(batches)
    future = stream._readers["joint"].remote._futures[second]
    wait_until(future.done)
    assert future.exception() is not None
    next(batches)


def test_reading_in_row_order_holds_a_few_shards_only(web, server, folder, monkeypatch) -> None:
    monkeypatch.setattr(remote_rows, "AHEAD", 1)
    held, most = 0, 0
    real = remote_files.RemoteFiles.map

    def counted(self: Any, name: str) -> np.ndarray:
        nonlocal held, most
        array = real(self, name)
        held += 1
        most = max(most, held)

        def gone() -> None:
            nonlocal held
            held -= 1

        weakref.finalize(array.base, gone)
        return array

    monkeypatch.setattr(remote_files.RemoteFiles, "map", counted)
    reader = Dataset.open(web).reader("train", "joint")
    local = Dataset.open(folder).reader("train", "joint")
    for start in range(0, len(reader), 2):
        rows = np.arange(start, min(start + 2, len(reader)))
        assert np.array_equal(reader.gather(rows), local.gather(rows))
    assert {path for path in server.tars() if "joint" in path} == {server.shard(n) for n in range(SHARDS)}
    assert max(server.count().values()) == 1
    assert most <= 4


def test_every_thread_ends_when_its_work_is_done(web, wait_until) -> None:
    list(Stream(Dataset.open(web), "train", ["joint"], 3))
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "skelpipe-fetch"])
