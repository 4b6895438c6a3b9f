"""Shards that a stream reads next: which, in what order, how many are held, and how large a window is."""

import time

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.loader import shuffle_window
from skelpipe.loader.epoch_order import epoch_order, shard_groups
from skelpipe.loader.stream import Stream

SHARDS = 8  # of the train subset


def test_without_a_cache_each_shard_comes_once_an_epoch(web, server, wait_until) -> None:
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=1)
    for epoch in range(2):
        list(stream)
        wait_until(lambda epoch=epoch: len(server.gets("train/joint")) >= (epoch + 1) * SHARDS)
    assert max(server.count()[server.shard(n)] for n in range(SHARDS)) <= 3  # the third is ahead of epoch 2


def _after(seed: int, epoch: int) -> list[list[int]]:
    return [group.tolist() for group in shard_groups(seed, epoch, SHARDS, 2)]


def test_the_next_window_is_fetched_while_one_is_read(web, server, wait_until) -> None:
    """After the first batch, without another: shards are fetched in the order in which they will be read."""
    seed = next(n for n in range(99) if not set(_after(n, 1)[0]) & {*_after(n, 0)[2], *_after(n, 0)[3]})
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=2, seed=seed)
    stream.batch(0, 0)
    groups = _after(seed, 0)
    wait_until(lambda: len(server.gets("train/joint")) >= 4)
    time.sleep(0.1)
    asked = {path for path in server.tars() if "train/joint" in path}
    assert asked == {server.shard(n) for group in groups[:2] for n in group}
    stream.batch(0, 2)
    wait_until(lambda: len(server.gets("train/joint")) >= 6)
    stream.batch(0, 4)
    wait_until(lambda: len(server.gets("train/joint")) >= 8)
    stream.batch(0, 6)  # the last window: the first one of the next epoch was released and is fetched again
    wait_until(lambda: all(server.count()[server.shard(n)] == 2 for n in _after(seed, 1)[0]))


def test_a_resumed_run_reads_nothing_of_what_went_before(web, server, wait_until) -> None:
    """Its first batch needs one window; neither earlier epochs nor earlier windows are fetched."""
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=1, seed=5)
    stream.load_state({**stream.state(), "epoch": 7, "step": 4})
    next(iter(stream))
    order = [int(group[0]) for group in shard_groups(5, 7, SHARDS, 1)]
    wait_until(lambda: len(server.tars()) == 2)
    assert set(server.tars()) == {server.shard(order[4]), server.shard(order[5])}


def test_the_default_window_is_what_can_be_held_twice(web, folder) -> None:
    local = Dataset.open(folder)
    tar = local.shards("train")[0]["views"]["joint"]["bytes"]
    for room, expected in ((tar * SHARDS, None), (tar * 5, 2), (tar * 2, 1)):
        stream = Stream(Dataset.open(web, cache_size=room), "train", ["joint"], 3)
        assert stream.window == expected
        order = epoch_order(0, 0, local.shard_sizes("train"), expected)
        assert np.array_equal(np.concatenate([batch.index for batch in stream]), order)
    two = Stream(Dataset.open(web, cache_size=tar * 5), "train", ["joint", "bone"], 3)
    assert two.window == 1
    with pytest.raises(UsageError, match=r"cannot hold two shards: at least"):
        Stream(Dataset.open(web, cache_size=tar), "train", ["joint"], 3)
    with pytest.raises(UsageError, match=r"a shuffle window of 3 shards needs [\d,]+ bytes here"):
        Stream(Dataset.open(web, cache_size=tar * 5), "train", ["joint"], 3, window=3)


def test_a_state_brings_its_window(web, folder, seen) -> None:
    """A local run can be continued remotely and the other way round, where there is room for its window."""
    local = Dataset.open(folder)
    tar = local.shards("train")[0]["views"]["joint"]["bytes"]
    there = Stream(Dataset.open(web, cache_size=tar * 5), "train", ["joint"], 4)
    next(iter(there))
    here = Stream(local, "train", ["joint"], 4)
    here.load_state(there.state())
    assert [seen(batch) for batch in here] == [seen(batch) for batch in there]
    small = Stream(Dataset.open(web, cache_size=tar * 5), "train", ["joint"], 4)
    before = small.state()
    with pytest.raises(UsageError, match="a shuffle window of all shards needs"):
        small.load_state(Stream(local, "train", ["joint"], 4).state())
    assert small.state() == before
    with pytest.raises(UsageError, match="window 2, here 1"):
        Stream(local, "train", ["joint"], 4, window=1).load_state(there.state())


def test_only_what_a_window_needs_is_kept(web) -> None:
    """Window after window: shards that were read are released."""
    assert shuffle_window.HELD_BYTES >= 10**9
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=1)
    for batch in stream:
        rows = stream._readers["joint"].remote
        assert len(rows._futures) <= 2, batch.step
