"""Confusion matrix and accuracies against loops and sorted lists: ties, NaN, empty classes."""

import math

import numpy as np
import pytest

from skelpipe.errors import SkelpipeError
from skelpipe.train.evaluation.metrics import confusion, per_class, predictions, topk_accuracy


def test_confusion_counts_as_a_loop_does() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    counts = [[0] * 5 for _ in range(5)]
    for truth, found in zip(labels, predicted, strict=True):
        counts[truth][found] += 1
    matrix = confusion(labels, predicted, 5)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == counts
    assert confusion(np.empty(0, np.int64), np.empty(0, np.int64), 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("labels", "predicted"), [([0, 3], [0, 0]), ([0, 1], [-1, 0]), ([0, 1], [0])])
def test_confusion_refuses_what_is_no_class(labels: list[int], predicted: list[int]) -> None:
    with pytest.raises(SkelpipeError, match="is none of the 3 classes|do not fit"):
        confusion(np.array(labels), np.array(predicted), 3)


@pytest.mark.parametrize("k", [1, 2, 5, 6, 9])
def test_topk_is_that_of_sorted_lists(k: int) -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 4, (200, 6)).astype(np.float32)  # full of ties
    labels = rng.integers(0, 6, 200)
    right = 0
    for row, label in zip(scores.tolist(), labels, strict=True):
        ranked = sorted(range(6), key=lambda c: (-row[c], c))
        right += label in ranked[:k]
    assert topk_accuracy(scores, labels, k) == pytest.approx(100 * right / 200)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    scores, labels = rng.normal(size=(50, 7)), rng.integers(0, 7, 50)
    whole = topk_accuracy(scores, labels, 2)
    monkeypatch.setattr("skelpipe.train.evaluation.metrics.BLOCK", 20)
    assert topk_accuracy(scores, labels, 2) == whole


def test_a_tie_goes_to_the_lowest_class() -> None:
    scores = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert predictions(scores).tolist() == [0, 1]
    assert topk_accuracy(scores, np.array([0, 1])) == 100
    assert topk_accuracy(scores, np.array([1, 2])) == 0
    assert topk_accuracy(scores, np.array([1, 2]), 2) == 100


def test_perfect_and_all_wrong() -> None:
    labels = np.array([0, 1, 2])
    assert topk_accuracy(np.eye(3), labels) == 100
    assert topk_accuracy(-np.eye(3), labels) == 0
    assert per_class(confusion(labels, labels, 3)).tolist() == [100, 100, 100]


def test_a_class_without_clips_has_no_accuracy() -> None:
    matrix = confusion(np.array([0, 0, 0, 2]), np.array([0, 1, 0, 1]), 3)
    found = per_class(matrix).tolist()
    assert found[0] == pytest.approx(200 / 3)
    assert math.isnan(found[1])
    assert found[2] == 0


@pytest.mark.parametrize("k", [1, 2])
def test_nan_is_refused_and_never_right(k: int) -> None:
    scores = np.array([[1.0, 0.0], [np.nan, np.nan]])
    with pytest.raises(SkelpipeError, match="scores of 1 clips are NaN, the first is row 1"):
        topk_accuracy(scores, np.array([0, 1]), k)
    with pytest.raises(SkelpipeError, match="NaN"):
        predictions(scores)


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(SkelpipeError, match="no clip to evaluate"):
        topk_accuracy(np.empty((0, 3)), np.empty(0, np.int64))
    with pytest.raises(SkelpipeError, match="do not fit 3 classes"):
        topk_accuracy(np.eye(3), np.array([0, 1, 3]))
    with pytest.raises(SkelpipeError, match="do not fit 2 labels"):
        topk_accuracy(np.eye(3), np.array([0, 1]))
