"""Which clips are chosen, and that their packed poses are those of the dataset."""

import base64
from collections import Counter

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.train.browsing.chosen_clips import Listed, listed, packed, sampled


def clips(labels: np.ndarray, subsets: np.ndarray, wrong: np.ndarray, known: np.ndarray) -> Listed:
    count = len(labels)
    ids = [f"clip {n}" for n in range(count)]
    return Listed(ids, labels, subsets, np.arange(count), [""] * count, wrong[None], known[None])


@pytest.fixture
def uneven() -> Listed:
    """Classes of 100, 10 and 2 clips of two subsets; every tenth clip of the second subset is mistaken."""
    labels = np.repeat([0, 1, 2], [100, 10, 2])
    subsets = np.arange(112) % 2
    known = subsets == 1
    return clips(labels, subsets, known & (np.arange(112) % 10 == 1), known)


def test_all_classes_have_equally_many_clips_where_they_can(uneven: Listed) -> None:
    for limit in (1, 3, 6, 8, 20, 40, 112, 500):
        chosen = sampled(uneven, limit)
        assert len(set(chosen.tolist())) == len(chosen) == min(limit, 112)
        counts, left = [0, 0, 0], min(limit, 112)
        while left:  # one for each class in turn, while it has one
            for label, most in enumerate((100, 10, 2)):
                if left and counts[label] < most:
                    counts[label], left = counts[label] + 1, left - 1
        assert sorted(Counter(uneven.labels[chosen].tolist()).values()) == sorted(filter(None, counts))


def test_each_class_has_mistakes_and_both_subsets(uneven: Listed) -> None:
    chosen = sampled(uneven, 20)
    own = chosen[uneven.labels[chosen] == 0]
    assert len(own) == 9
    kinds = Counter(zip(uneven.subsets[own].tolist(), uneven.wrong[0][own].tolist(), strict=True))
    assert kinds == {(0, False): 3, (1, False): 3, (1, True): 3}


def test_the_seed_draws_the_clips(uneven: Listed) -> None:
    assert np.array_equal(sampled(uneven, 20, seed=1), sampled(uneven, 20, seed=1))
    assert not np.array_equal(sampled(uneven, 20, seed=1), sampled(uneven, 20, seed=2))


def test_packed_poses_are_those_of_the_dataset(tiny_dataset: Dataset) -> None:
    every = listed(tiny_dataset)
    chosen = np.array([0, 30, 47])
    joints = tiny_dataset.reader("train", "joint"), tiny_dataset.reader("test", "joint")
    for at, clip in zip(chosen.tolist(), packed(tiny_dataset, every, chosen), strict=True):
        subset, row = divmod(at, 24)
        assert clip["id"] == tiny_dataset.ids(("train", "test")[subset])[row]
        assert clip["subset"] == subset
        assert clip["label"] == tiny_dataset.labels(("train", "test")[subset])[row]
        assert f"P{int(clip['subject']):03}" in clip["id"]
        stored = joints[subset].gather(np.array([row]))[0].transpose(3, 1, 2, 0)  # [M,T,V,C]
        levels = np.frombuffer(base64.b64decode(clip["poses"]), np.uint8).reshape(stored.shape)
        low, high = stored.reshape(-1, 3).min(0), stored.reshape(-1, 3).max(0)
        side = max((high - low).max(), 0.5)
        assert np.abs(low + levels / 254 * side - stored).max() <= side / 254 * 0.51
        np.testing.assert_allclose(clip["size"], (high - low) / side, atol=1e-4)


def test_outcomes_are_those_of_each_run(tiny_dataset: Dataset) -> None:
    first, second = tiny_dataset.ids("test")[:2]
    every = listed(tiny_dataset, [{first: (0, 0), second: (0, 7)}, {}])
    assert [every.ids[n] for n in np.flatnonzero(every.known[0])] == [first, second]
    assert [every.ids[n] for n in np.flatnonzero(every.wrong[0])] == [second]
    assert not every.known[1].any()
