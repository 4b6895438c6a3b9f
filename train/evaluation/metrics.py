"""Figures of a classification: pure functions of scores, labels and predictions."""

import numpy as np

from skelpipe.errors import SkelpipeError

__all__ = ["confusion", "per_class", "predictions", "topk_accuracy"]

BLOCK = 2**24  # scores compared at a time


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how often each class was predicted for each true class: int64[K,K], one row per true class.

    `labels` and `predicted` are int[N] in 0..K-1; SkelpipeError where they are not, or differ in length.
    """
    truth, found = np.asarray(labels), np.asarray(predicted)
    if truth.shape != found.shape:
        raise SkelpipeError(f"{len(truth)} labels do not fit {len(found)} predictions")
    for name, values in (("label", truth), ("prediction", found)):
        outside = values[(values < 0) | (values >= classes)]
        if len(outside):
            raise SkelpipeError(f"{name} {outside[0]} is none of the {classes} classes (0 to {classes - 1})")
    cells = truth.astype(np.int64) * classes + found.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def predictions(scores: np.ndarray) -> np.ndarray:
    """Return the class of each row of scores [N,K] with the highest one, int64[N]; ties go to the lowest class."""
    checked = np.asarray(scores)
    _refuse_nan(checked)
    return checked.argmax(axis=1).astype(np.int64)


def topk_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Return in percent how often the true class is among the k highest of the scores [N,K].

    Equal scores rank in class order, lowest first; with k >= K every clip is right. Raises SkelpipeError where
    there is no clip, a score is NaN, or a label is none of the classes.
    """
    scores, labels = np.asarray(scores), np.asarray(labels, np.int64)
    if not len(labels):
        raise SkelpipeError("there is no clip to evaluate")
    if scores.ndim != 2 or len(scores) != len(labels):
        raise SkelpipeError(f"scores of shape {list(scores.shape)} do not fit {len(labels)} labels")
    _refuse_nan(scores)
    classes = scores.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise SkelpipeError(f"labels from {labels.min()} to {labels.max()} do not fit {classes} classes")
    step, order, right = max(1, BLOCK // classes), np.arange(classes), 0
    for start in range(0, len(labels), step):
        block, truth = scores[start : start + step], labels[start : start + step, None]
        own = np.take_along_axis(block, truth, axis=1)
        before = (block > own) | ((block == own) & (order < truth))
        right += int((before.sum(axis=1) < k).sum())
    return 100.0 * right / len(labels)


def per_class(matrix: np.ndarray) -> np.ndarray:
    """Return each true class's accuracy in percent, float64[K], of a confusion matrix [K,K]; NaN without clips."""
    matrix = np.asarray(matrix, np.float64)
    clips = matrix.sum(axis=1)
    return np.where(clips > 0, 100.0 * matrix.diagonal() / np.maximum(clips, 1), np.nan)


def _refuse_nan(scores: np.ndarray) -> None:
    """Raise SkelpipeError for NaN: no score is higher than NaN, so it would count as right."""
    bad = np.isnan(scores).any(axis=1)
    if bad.any():
        raise SkelpipeError(f"the scores of {int(bad.sum())} clips are NaN, the first is row {int(bad.argmax())}")
