"""Figures of a segmentation, one class per frame: pure functions of labels and their confusion matrix."""

from collections.abc import Iterator

import numpy as np

from skelpipe.errors import SkelpipeError

__all__ = ["FIGURES", "intersection_over_union", "runs", "segmentation_figures"]

FIGURES = ("acc", "macc", "fwiou", "miou")


def segmentation_figures(matrix: np.ndarray) -> dict[str, float]:
    """Return ACC, MACC, FWIoU and mIoU in percent of a confusion matrix [K,K], one row per true class.

    acc: the share of right frames; macc: the mean of the classes' own accuracies; miou: the mean of their
    intersections over unions; fwiou: that mean weighted by the classes' frames. Means are over the classes that
    have frames; a frame with a wrong prediction also counts in the union of the predicted class. Raises
    SkelpipeError where there is no frame (docs/segmentation.md).
    """
    counts = np.asarray(matrix, np.float64)
    truth = counts.sum(axis=1)
    if not truth.sum():
        raise SkelpipeError("there is no frame to evaluate")
    seen = truth > 0
    right = counts.diagonal()[seen]
    overlap = intersection_over_union(counts)[seen]
    figures = (
        right.sum() / truth.sum(),
        (right / truth[seen]).mean(),
        (truth[seen] * overlap).sum() / truth.sum(),
        overlap.mean(),
    )
    return {name: 100.0 * float(figure) for name, figure in zip(FIGURES, figures, strict=True)}


def intersection_over_union(matrix: np.ndarray) -> np.ndarray:
    """Return n_ii / (t_i + sum_j n_ji - n_ii) of each class, float64[K]; NaN where the union is empty."""
    counts = np.asarray(matrix, np.float64)
    right = counts.diagonal()
    union = counts.sum(axis=0) + counts.sum(axis=1) - right
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def runs(labels: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield (first frame, last frame, class) of each run of equal labels [F]; frames count from 0."""
    if not len(labels):
        return
    firsts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist()]
    for first, after in zip(firsts, [*firsts[1:], len(labels)], strict=True):
        yield first, after - 1, int(labels[first])
