"""Class-balanced and weighted sampling, by counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import UsageError
from skelpipe.loader.epoch_order import epoch_order
from skelpipe.loader.sampling import Sampling, balanced, weighted

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=40)


def rows_of(sampling: Sampling, seed: int, epoch: int) -> list[int]:
    return (sampling.occurrences(seed, epoch) % sampling.rows).tolist()


def no_clip_before_its_time(drawn: list[list[int]], members: list[int]) -> None:
    """Over all epochs, a clip comes again only after all others of its group came."""
    times = dict.fromkeys(members, 0)
    for epoch in drawn:
        for row in epoch:
            if row in times:
                times[row] += 1
        assert not times or max(times.values()) - min(times.values()) <= 1


@given(LABELS, st.integers(0, 99))
def test_classes_come_equally_often(labels: list[int], seed: int) -> None:
    sampling = balanced(np.array(labels, np.int64))
    present = sorted(set(labels))
    total = dict.fromkeys(present, 0)
    drawn = [rows_of(sampling, seed, epoch) for epoch in range(7)]
    for epoch in drawn:
        assert len(epoch) == len(labels) == sampling.count
        counts = {label: sum(labels[row] == label for row in epoch) for label in present}
        assert max(counts.values()) - min(counts.values()) <= 1
        for label in present:
            total[label] += counts[label]
        assert max(total.values()) - min(total.values()) <= 1  # the remainder goes round
    for label in present:
        no_clip_before_its_time(drawn, [row for row, own in enumerate(labels) if own == label])


@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.data())
def test_clips_of_a_dataset_come_as_often_as_its_weight_says(counts: list[int], data: st.DataObject) -> None:
    weights = data.draw(
        st.lists(st.sampled_from([0.5, 1.0, 1.7, 3.0]), min_size=len(counts), max_size=len(counts))
    )
    if any(count and not round(weight * count) for count, weight in zip(counts, weights, strict=True)):
        with pytest.raises(UsageError, match="leaves no clip"):
            weighted(counts, weights)
        return
    sampling = weighted(counts, weights)
    starts = np.cumsum([0, *counts]).tolist()
    drawn = [rows_of(sampling, 3, epoch) for epoch in range(5)] if sampling.rows else []
    for first, count, weight in zip(starts, counts, weights, strict=False):
        members = list(range(first, first + count))
        assert all(sum(row in members for row in epoch) == round(weight * count) for epoch in drawn)
        no_clip_before_its_time(drawn, members)


def test_an_epoch_of_weights_of_one_has_every_clip_once() -> None:
    assert sorted(weighted([5, 0, 3], [1, 1, 1]).occurrences(2, 9).tolist()) == list(range(8))


def test_occurrences_number_the_times_of_a_clip() -> None:
    found = balanced(np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int64)).occurrences(0, 0)
    assert sorted(found[found % 8 == 7].tolist()) == [7, 15, 23, 31]  # the only clip of its class, four times
    assert len(set(found.tolist())) == 8


def test_epochs_and_seeds_differ_and_nothing_else_does() -> None:
    sampling = balanced(np.arange(60, dtype=np.int64) % 2)
    again = balanced(np.arange(60, dtype=np.int64) % 2)
    seen = set()
    for seed in range(3):
        for epoch in range(3):
            occurrences = sampling.occurrences(seed, epoch)
            assert occurrences.tolist() == again.occurrences(seed, epoch).tolist()
            seen.add(tuple(epoch_order(seed, epoch, [60], None, occurrences).tolist()))
    assert len(seen) == 9


def test_every_clip_of_a_large_class_is_equally_likely() -> None:
    labels = np.array([0] * 6 + [1] * 2, np.int64)  # four draws of each class: two thirds of the large one
    counts = np.zeros(8)
    for seed in range(600):
        np.add.at(counts, balanced(labels).occurrences(seed, 0) % 8, 1)
    expected = np.array([400.0] * 6 + [1200.0] * 2)
    assert (((counts - expected) ** 2 / expected)[:6]).sum() < 20.5  # 5 degrees of freedom, p = 0.001
    assert counts[6:].tolist() == [1200, 1200]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.none() | st.integers(1, 9), st.integers(0, 50))
def test_a_window_holds_few_shards_of_sampled_clips(sizes: list[int], window: int | None, seed: int) -> None:
    if not sum(sizes):
        return
    sampling = weighted([sum(sizes)], [2.5])
    occurrences = sampling.occurrences(seed, 1)
    order = epoch_order(seed, 1, sizes, window, occurrences)
    assert sorted(order.tolist()) == sorted(occurrences.tolist())
    shard_of = np.repeat(np.arange(len(sizes)), sizes)[order % sampling.rows]
    spans = [np.flatnonzero(shard_of == s)[[0, -1]] for s in range(len(sizes)) if (shard_of == s).any()]
    for position in range(len(order)):
        assert sum(first <= position <= last for first, last in spans) <= (window or len(sizes))


def test_clips_without_a_label_are_refused() -> None:
    with pytest.raises(UsageError, match="needs labels"):
        balanced(np.array([0, -1], np.int64))
