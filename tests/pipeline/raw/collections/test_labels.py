import pickle

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.raw.collections.labels import labels_of, texts_of
from skelpipe.raw.plain_pickle import load_pickle


@pytest.mark.parametrize(
    ("numbers", "labels", "count"),
    [
        (np.array([3, 0, 1]), [3, 0, 1], 4),
        (np.array([[3], [0]], np.uint8), [3, 0], 4),
        (np.array([2.0, 1.0]), [2, 1], 3),
        (np.eye(6, dtype=np.float32)[[5, 0]], [5, 0], 6),
        (np.eye(3, dtype=bool)[[1]], [1], 3),
        (np.zeros(0), [], 0),
    ],
)
def test_numbers_and_one_hot(numbers: np.ndarray, labels: list[int], count: int) -> None:
    assert labels_of(numbers, "a.npy") == (labels, count)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (np.array([1, -1]), "sample 1 has the label -1: labels count from 0"),
        (np.array([0.0, 0.5]), "the label of sample 1 is no whole number: 0.5"),
        (np.array([0.0, np.nan]), "the label of sample 1 is no whole number: nan"),
        (np.array([[0, 1], [1, 1]]), "row 1 is not one-hot"),
        (np.array([[0, 2]]), "row 0 is not one-hot"),
        (np.zeros((1, 1, 2)), r"one label per sample is expected, found the shape \[1, 1, 2\]"),
        (np.array("a"), "labels are expected to be numbers"),
    ],
)
def test_anything_else_is_refused(numbers: np.ndarray, said: str) -> None:
    with pytest.raises(RawError, match=f"^a.npy: {said}"):
        labels_of(numbers, "a.npy")


def test_texts_of_what_pickles_hold() -> None:
    for values in (["a", "b"], ("a", b"b"), np.array(["a", "b"]), np.array(["a", "b"], object)):
        content = load_pickle(pickle.dumps(values), "a.pkl")
        assert texts_of(content, "a.pkl") == ["a", "b"]
    for values in ("ab", [1], {"a": 1}, None, [["a"]], np.array([["a"]])):
        content = load_pickle(pickle.dumps(values), "a.pkl")
        with pytest.raises(RawError, match="^a.pkl: .*names"):
            texts_of(content, "a.pkl")
