"""Figures of a segmentation against loops over frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import SkelpipeError
from skelpipe.train.evaluation.metrics import confusion
from skelpipe.train.evaluation.segmentation_metrics import (
    FIGURES,
    intersection_over_union,
    runs,
    segmentation_figures,
)

CLASSES = 6


def by_hand(truth: list[int], predicted: list[int]) -> dict[str, float]:
    """ACC, MACC, FWIoU and mIoU in %, of sets of frames."""
    frames = range(len(truth))
    accuracies, overlaps, weighted = [], [], 0.0
    for label in range(CLASSES):
        own = {f for f in frames if truth[f] == label}
        taken = {f for f in frames if predicted[f] == label}
        if own:
            accuracies.append(len(own & taken) / len(own))
            overlaps.append(len(own & taken) / len(own | taken))
            weighted += len(own) * overlaps[-1]
    right = sum(truth[f] == predicted[f] for f in frames)
    values = (
        right / len(truth),
        sum(accuracies) / len(accuracies),
        weighted / len(truth),
        sum(overlaps) / len(overlaps),
    )
    return {name: 100 * value for name, value in zip(("acc", "macc", "fwiou", "miou"), values, strict=True)}


def figures(truth: list[int], predicted: list[int]) -> dict[str, float]:
    return segmentation_figures(confusion(np.array(truth), np.array(predicted), CLASSES))


@given(st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60))
def test_figures_are_those_of_sets_of_frames(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    found = figures(truth, predicted)
    assert tuple(found) == FIGURES
    assert found == pytest.approx(by_hand(truth, predicted))


def test_a_perfect_segmentation_is_100_percent() -> None:
    truth = [0, 0, 3, 3, 3, 0, 1]  # classes 2, 4 and 5 have no frame
    assert figures(truth, truth) == dict.fromkeys(FIGURES, 100.0)


def test_all_background_scores_the_share_of_the_background() -> None:
    truth = [0] * 6 + [1] * 3 + [4]
    assert figures(truth, [0] * 10) == pytest.approx(
        {"acc": 60.0, "macc": 100 / 3, "fwiou": 100 * 0.6 * 0.6, "miou": 100 * 0.6 / 3}
    )


def test_a_class_without_frames_counts_against_those_it_was_taken_for() -> None:
    """Class 5 never occurs: no mean has it, but the frames it was given are missing elsewhere."""
    found = figures([0, 0, 1, 1], [0, 5, 1, 1])
    assert found == pytest.approx({"acc": 75.0, "macc": 75.0, "fwiou": 75.0, "miou": 75.0})


def test_by_hand_on_paper() -> None:
    matrix = np.array([[5, 1, 0], [2, 2, 0], [0, 0, 0]])  # 10 frames of two classes
    found = segmentation_figures(matrix)
    assert found["acc"] == pytest.approx(70.0)
    assert found["macc"] == pytest.approx(100 * (5 / 6 + 2 / 4) / 2)
    assert found["miou"] == pytest.approx(100 * (5 / 8 + 2 / 5) / 2)
    assert found["fwiou"] == pytest.approx(100 * (6 * 5 / 8 + 4 * 2 / 5) / 10)
    overlap = intersection_over_union(matrix)
    assert overlap[:2] == pytest.approx([5 / 8, 2 / 5])
    assert np.isnan(overlap[2])


def test_no_frame_is_an_error() -> None:
    with pytest.raises(SkelpipeError, match="no frame"):
        segmentation_figures(np.zeros((3, 3), np.int64))


@given(st.lists(st.integers(0, 2), max_size=30))
def test_runs_tell_the_labels(labels: list[int]) -> None:
    found = list(runs(np.array(labels, np.int64)))
    assert [label for first, last, label in found for _ in range(first, last + 1)] == labels
    assert [first for first, _, _ in found] == [
        f for f in range(len(labels)) if not f or labels[f] != labels[f - 1]
    ]
