"""Streams: the order of an epoch, the share of each rank, what is refused, and exact resume."""

import json
import tracemalloc
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.errors import DatasetError, SkelpipeError, UsageError
from skelpipe.loader.epoch_order import epoch_plan
from skelpipe.loader.stream import Stream, StreamBatch, epoch_order

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=8)
WINDOWS = st.none() | st.integers(1, 9)
WORD = 1 << 64


def scramble(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def naive_order(seed: int, epoch: int, sizes: list[int], window: int | None) -> list[int]:
    """The order in plain integers and `sorted`, without numpy."""
    golden = 0x9E3779B97F4A7C15

    def rank(purpose: int, i: int) -> int:
        key = 0
        for word in (seed, epoch, purpose):
            key = scramble((key + (word + 1) * golden) % WORD)
        return scramble(scramble((i + 1) * golden % WORD) ^ key)

    rows = [list(range(sum(sizes[:s]), sum(sizes[: s + 1]))) for s in range(len(sizes))]
    window = len(sizes) if window is None else min(window, len(sizes))
    shards = sorted(range(len(sizes)), key=lambda s: rank(1, s))
    order: list[int] = []
    for first in range(0, len(shards), window):
        group = [row for s in shards[first : first + window] for row in rows[s]]
        order += sorted(group, key=lambda row: rank(2, row))
    return order


@given(st.integers(0, 1 << 70), st.integers(0, 10_000), SIZES, WINDOWS)
def test_order_is_that_of_plain_integer_arithmetic(
    seed: int, epoch: int, sizes: list[int], window: int | None
) -> None:
    order = epoch_order(seed, epoch, sizes, window)
    assert order.dtype == np.int64
    assert order.tolist() == naive_order(seed, epoch, sizes, window)


@pytest.mark.parametrize("window", [None, 2, 11])
def test_many_rows_are_sorted_in_parts_with_the_same_result(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skelpipe.loader.epoch_order.BLOCK", 8)
    sizes = [3, 40, 0, 1, 7, 9, 16, 2, 8, 8, 5, 30]
    order = epoch_plan(5, 2, sizes, window)
    assert order.dtype == np.int32
    assert order.tolist() == naive_order(5, 2, sizes, window)


def test_an_epoch_of_a_million_clips_is_planned_in_16_megabytes() -> None:
    tracemalloc.start()
    epoch_plan(0, 0, [1000] * 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6 + 12e6  # the order, and what does not grow with it


@given(st.integers(0, 99), SIZES, WINDOWS)
def test_order_is_a_permutation_with_few_shards_open(seed: int, sizes: list[int], window: int | None) -> None:
    order = epoch_order(seed, 3, sizes, window)
    assert sorted(order.tolist()) == list(range(sum(sizes)))
    shard_of = np.repeat(np.arange(len(sizes)), sizes)[order]
    spans = [np.flatnonzero(shard_of == s)[[0, -1]] for s in range(len(sizes)) if sizes[s]]
    for position in range(len(order)):  # shards that a reader has to hold: begun and not finished
        assert sum(first <= position <= last for first, last in spans) <= (window or len(sizes))


def test_order_changes_with_seed_epoch_and_nothing_else() -> None:
    sizes = [50, 1, 0, 70]
    orders = {(s, e): tuple(epoch_order(s, e, sizes)) for s in range(4) for e in range(4)}
    assert len(set(orders.values())) == 16
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    assert tuple(epoch_order(2, 3, np.array(sizes, np.int32))) == orders[2, 3]
    assert tuple(epoch_order(2, 3, sizes, window=4)) == orders[2, 3]


@pytest.mark.parametrize("window", [None, 1])
def test_every_row_is_equally_likely_at_every_position(window: int | None) -> None:
    rows, epochs = 8, 2000
    counts = np.zeros((rows, rows))
    for epoch in range(epochs):  # eight shards of one row: with window 1 the shards are shuffled
        counts[np.arange(rows), epoch_order(5, epoch, [1] * rows, window)] += 1
    expected = epochs / rows
    chi_square = ((counts - expected) ** 2 / expected).sum()  # (rows-1)^2 = 49 degrees of freedom
    assert chi_square < 86  # p = 0.001
    pairs = np.zeros((rows, rows))
    for epoch in range(epochs):
        order = epoch_order(5, epoch, [1] * rows, window)
        pairs[order[0], order[1]] += 1
    off = ~np.eye(rows, dtype=bool)
    expected = epochs / off.sum()
    assert ((pairs[off] - expected) ** 2 / expected).sum() < 94  # 55 degrees of freedom, p = 0.001


@pytest.mark.parametrize(("sizes", "window"), [([3, -1], None), ([3, 1], 0)])
def test_order_refuses_nonsense(sizes: list[int], window: int | None) -> None:
    with pytest.raises(UsageError):
        epoch_order(0, 0, sizes, window)


@given(SIZES, st.integers(1, 12), st.integers(1, 5), st.booleans(), st.booleans(), WINDOWS)
def test_ranks_share_the_same_global_batches(
    memory_dataset: Any, sizes: list[int], batch: int, world: int, shuffle: bool, drop: bool, window: int | None
) -> None:
    count = sum(sizes)
    batch = max(batch, world)
    if count == 0 or (drop and count < batch):
        return
    dataset = memory_dataset(sizes, shape=(3, 2, 2, 1))
    options: dict[str, Any] = {"seed": 4, "shuffle": shuffle, "drop_last": drop, "window": window}
    alone = list(Stream(dataset, "train", ["joint"], batch, **options))
    ranks = [Stream(dataset, "train", ["joint"], batch, rank=r, world=world, **options) for r in range(world)]
    shares = [list(rank) for rank in ranks]
    assert {len(share) for share in shares} == {len(alone)} == {len(rank) for rank in ranks}
    for step, whole in enumerate(alone):
        parts = [share[step] for share in shares]
        assert np.concatenate([part.index for part in parts]).tolist() == whole.index.tolist()
        sizes_here = [len(part.index) for part in parts]
        assert max(sizes_here) - min(sizes_here) <= 1
    seen = np.concatenate([whole.index for whole in alone])
    assert len(seen) == len(set(seen.tolist())) == (count // batch * batch if drop else count)
    full = [len(whole.index) for whole in alone[:-1]]
    assert full == [batch] * (len(alone) - 1)


def test_batch_holds_the_clips_and_labels_of_its_rows(memory_dataset: Any) -> None:
    dataset = memory_dataset([5, 0, 1, 7])
    for batch in Stream(dataset, "train", ["motion", "joint"], 4, seed=1):
        assert batch.index.dtype == batch.label.dtype == np.int64
        assert batch.label.tolist() == dataset.labels("train")[batch.index].tolist()
        assert list(batch.views) == ["motion", "joint"]
        for view, clips in batch.views.items():
            np.testing.assert_array_equal(clips, dataset.clips[view][batch.index])
        assert batch.views["joint"][:, 0, 0, 0, 0].tolist() == batch.index.tolist()


def test_without_shuffle_every_epoch_is_in_row_order(memory_dataset: Any) -> None:
    stream = Stream(memory_dataset([3, 4]), "test", ["joint"], 3, shuffle=False, drop_last=False)
    for epoch in range(2):
        batches = list(stream)
        assert [(b.epoch, b.step) for b in batches] == [(epoch, 0), (epoch, 1), (epoch, 2)]
        assert [b.index.tolist() for b in batches] == [[0, 1, 2], [3, 4, 5], [6]]


def test_batch_reads_only_the_views_of_out(memory_dataset: Any) -> None:
    dataset = memory_dataset([9])
    stream = Stream(dataset, "train", ["joint", "motion"], 4, drop_last=False)
    room = np.full((4, *dataset.shape), np.nan, np.float32)
    batch = stream.batch(0, 2, out={"motion": room})
    assert list(batch.views) == ["motion"]
    assert np.shares_memory(batch.views["motion"], room)
    np.testing.assert_array_equal(room[:1], dataset.clips["motion"][batch.index])
    assert np.isnan(room[1:]).all()
    assert dataset.readers["joint"].gathers == 0
    assert (stream.epoch, stream.step) == (0, 0)


def look(batch: StreamBatch) -> tuple[Any, ...]:
    clips = {view: clips.tobytes() for view, clips in batch.views.items()}
    return batch.epoch, batch.step, batch.index.tolist(), batch.label.tolist(), clips


@settings(max_examples=60)
@given(SIZES.filter(any), WINDOWS, st.integers(1, 5), st.integers(1, 3), st.booleans(), st.data())
def test_resume_is_exact(
    memory_dataset: Any,
    resumes_exactly: Callable[..., None],
    sizes: list[int],
    window: int | None,
    batch: int,
    world: int,
    shuffle: bool,
    data: st.DataObject,
) -> None:
    dataset = memory_dataset(sizes, shape=(3, 2, 2, 1))
    batch = max(world, min(batch, sum(sizes)))
    drop = data.draw(st.booleans()) and batch <= sum(sizes)
    rank = data.draw(st.integers(0, world - 1))

    def make() -> Stream:
        options: dict[str, Any] = {"shuffle": shuffle, "drop_last": drop, "window": window}
        return Stream(dataset, "train", ["joint"], batch, seed=2, rank=rank, world=world, **options)

    resumes_exactly(make, look, cut=data.draw(st.integers(0, 2 * len(make()))))


def test_a_state_of_one_rank_resumes_any_number_of_ranks(memory_dataset: Any) -> None:
    dataset = memory_dataset([30])
    alone = Stream(dataset, "train", ["joint"], 6, seed=9)
    steps = iter(alone)
    next(steps), next(steps)
    two = [Stream(dataset, "train", ["joint"], 6, seed=9, rank=r, world=2) for r in range(2)]
    for stream in two:
        stream.load_state(alone.state())
    for whole, first, second in zip(steps, *two, strict=True):
        assert whole.index.tolist() == [*first.index.tolist(), *second.index.tolist()]
        assert whole.step == first.step == second.step


def test_resume_reads_nothing(memory_dataset: Any) -> None:
    dataset = memory_dataset([40])
    stream = Stream(dataset, "train", ["joint"], 2, seed=1)
    stream.load_state({"seed": 1, "epoch": 1_000_000, "step": 19, "digest": dataset.digest})
    assert dataset.readers["joint"].gathers == 0
    assert [(b.epoch, b.step) for b in stream] == [(1_000_000, 19)]
    assert dataset.readers["joint"].gathers == 1


def test_state_is_small_and_plain(memory_dataset: Any) -> None:
    dataset = memory_dataset([400])
    stream = Stream(dataset, "train", ["joint"], 2, seed=3, window=2)
    next(iter(stream))
    state = stream.state()
    assert {key: state[key] for key in ("seed", "epoch", "step", "digest")} == {
        "seed": 3,
        "epoch": 0,
        "step": 1,
        "digest": dataset.digest,
    }
    assert state["window"] == 2
    assert len(json.dumps(state)) < 250


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"digest": "another"}, DatasetError, ["another", "digest-of-[10]"]),
        ({"seed": 4}, UsageError, ["seed 4", "here 3"]),
        ({"batch_size": 5}, UsageError, ["batch_size 5", "here 2"]),
        ({"window": 1}, UsageError, ["window 1", "here None"]),
        ({"shuffle": False}, UsageError, ["shuffle"]),
        ({"split": "test"}, UsageError, ["split test"]),
        ({"step": 6}, UsageError, ["step 6", "5 steps"]),
        ({"epoch": -1}, UsageError, ["-1"]),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    memory_dataset: Any, change: dict[str, Any], error: type[SkelpipeError], words: list[str]
) -> None:
    stream = Stream(memory_dataset([10]), "train", ["joint"], 2, seed=3, window=None)
    next(iter(stream))
    before = stream.state()
    with pytest.raises(error) as caught:
        stream.load_state({**before, "step": 3, **change})
    assert all(word in str(caught.value) for word in words)
    assert stream.state() == before


def test_something_else_than_a_state_is_refused(memory_dataset: Any) -> None:
    stream = Stream(memory_dataset([10]), "train", ["joint"], 2)
    with pytest.raises(UsageError, match="lacks epoch, digest"):
        stream.load_state({"seed": 0, "step": 1})


@pytest.mark.parametrize(
    ("sizes", "options", "error", "words"),
    [
        ([0, 0], {}, DatasetError, ["data/memory", "'train'", "no samples"]),
        ([4, 3], {"batch_size": 8}, UsageError, ["7 samples", "8"]),
        ([9], {"views": ["bone"]}, UsageError, ["'bone'", "joint, motion"]),
        ([9], {"rank": 2, "world": 2}, UsageError, ["rank 2"]),
        ([9], {"rank": -1}, UsageError, ["rank -1"]),
        ([9], {"batch_size": 2, "world": 3}, UsageError, ["2", "3 ranks"]),
        ([9], {"batch_size": 0}, UsageError, ["0"]),
        ([9], {"window": 0}, UsageError, ["window"]),
    ],
)
def test_what_cannot_be_streamed_is_refused(
    memory_dataset: Any, sizes: list[int], options: dict[str, Any], error: type[SkelpipeError], words: list[str]
) -> None:
    arguments: dict[str, Any] = {"views": ["joint"], "batch_size": 2, **options}
    with pytest.raises(error) as caught:
        Stream(memory_dataset(sizes, shape=(3, 2, 2, 1)), "train", **arguments)
    assert all(word in str(caught.value) for word in words)


def test_fewer_rows_than_the_batch_are_one_batch_when_the_last_is_kept(memory_dataset: Any) -> None:
    stream = Stream(memory_dataset([3]), "train", ["joint"], 128, drop_last=False)
    assert len(stream) == 1
    assert sorted(next(iter(stream)).index.tolist()) == [0, 1, 2]


def taken_by_islice(source: Any) -> list[Any]:
    return list(islice(source, len(source)))


def taken_by_zip(source: Any) -> list[Any]:
    return [batch for _, batch in zip(range(len(source)), source)]  # noqa: B905 - it asks for no more than there is


def taken_by_next(source: Any) -> list[Any]:
    batches = iter(source)
    return [next(batches) for _ in range(len(source))]


@pytest.mark.parametrize("take", [list, taken_by_islice, taken_by_zip, taken_by_next])
def test_after_the_last_batch_it_stands_at_the_next_epoch(memory_dataset: Any, take: Any) -> None:
    """Whoever stops to ask: also while the iterator of the epoch before is still alive."""
    stream = Stream(memory_dataset([9]), "train", ["joint"], 2, seed=3)
    expected = [[look(stream.batch(epoch, step)) for step in range(4)] for epoch in range(3)]
    seen = []
    for epoch in range(3):
        batches = take(stream)
        seen.append([look(batch) for batch in batches])
        assert (stream.state()["epoch"], stream.state()["step"]) == (epoch + 1, 0)
        assert stream.state_dict() == stream.state() == stream.state(after=batches[-1])
    assert seen == expected


def test_a_state_after_the_last_batch_is_that_of_the_next_epoch(memory_dataset: Any) -> None:
    """As earlier versions saved it."""
    stream = Stream(memory_dataset([9]), "train", ["joint"], 2, seed=3)
    stream.load_state_dict({**stream.state(), "epoch": 4, "step": 4})
    assert [(batch.epoch, batch.step) for batch in stream] == [(5, step) for step in range(4)]


def test_training_goes_on_after_a_break_and_evaluation_begins_again(memory_dataset: Any) -> None:
    def begun(stream: Stream) -> tuple[int, int]:
        first = next(iter(stream))
        return first.epoch, first.step

    training = Stream(memory_dataset([9]), "train", ["joint"], 2)
    assert [begun(training) for _ in range(5)] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    evaluation = Stream(memory_dataset([9]), "test", ["joint"], 2)
    assert [begun(evaluation) for _ in range(2)] == [(0, 0), (0, 0)]
    evaluation.load_state({**evaluation.state(), "step": 3})
    assert [batch.step for batch in evaluation] == [3, 4]
    assert (evaluation.epoch, evaluation.step) == (1, 0)


def test_evaluation_neither_shuffles_nor_drops_unless_told(memory_dataset: Any) -> None:
    dataset = memory_dataset([5, 4])
    evaluation = Stream(dataset, "test", ["joint"], 4)
    assert [batch.index.tolist() for batch in evaluation] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    training = Stream(dataset, "train", ["joint"], 4)
    assert (training.shuffle, training.drop_last) == (True, True)
    shuffled = Stream(dataset, "test", ["joint"], 4, shuffle=True, drop_last=True)
    assert [b.index.tolist() for b in shuffled] == [b.index.tolist() for b in training]
