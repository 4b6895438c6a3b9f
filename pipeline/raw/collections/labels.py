"""Labels in arrays and lists of other programs: whole numbers from 0, or one-hot."""

from typing import Any

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.plain_pickle import PickledArray

__all__ = ["labels_of", "texts_of"]

DIGITS = 19  # a number with fewer is one of 64 bits


def labels_of(numbers: np.ndarray, where: str) -> tuple[list[int], int]:
    """Return labels from 0, and the number of classes that they need.

    `numbers` are `[N]` or `[N,1]` whole numbers, also as texts of digits, or `[N,classes]` one-hot. Raises
    RawError, which starts with `where`, for anything else.
    """
    if numbers.dtype.kind in "US" and all(
        len(text) < DIGITS and text.isascii() and text.isdigit() for text in numbers.ravel().tolist()
    ):
        numbers = numbers.astype(np.int64)
    if numbers.dtype.kind not in "iufb":
        raise RawError(f"{where}: labels are expected to be numbers, found {numbers.dtype}")
    if numbers.ndim == 2 and numbers.shape[1] > 1:
        return _one_hot(numbers, where)
    if numbers.ndim == 2:
        numbers = numbers[:, 0]
    if numbers.ndim != 1:
        raise RawError(f"{where}: one label per sample is expected, found the shape {list(numbers.shape)}")
    with np.errstate(invalid="ignore"):
        labels = numbers.astype(np.int64)
    if not np.array_equal(labels, numbers):
        sample = int(np.flatnonzero(labels != numbers)[0])
        raise RawError(f"{where}: the label of sample {sample} is no whole number: {numbers[sample]}")
    if len(labels) and labels.min() < 0:
        raise RawError(f"{where}: sample {int(labels.argmin())} has the label {labels.min()}: labels count from 0")
    return labels.tolist(), int(labels.max(initial=-1)) + 1


def _one_hot(numbers: np.ndarray, where: str) -> tuple[list[int], int]:
    wrong = ((numbers != 0).sum(axis=1) != 1) | (numbers.max(axis=1) != 1)
    if wrong.any():
        sample = int(np.flatnonzero(wrong)[0])
        raise RawError(f"{where}: row {sample} is not one-hot: exactly one 1 is expected, the rest 0")
    return numbers.argmax(axis=1).tolist(), numbers.shape[1]


def texts_of(values: Any, where: str) -> list[str]:
    """Return a list, tuple, set or array of texts as a list; RawError, which starts with `where`, for another."""
    if isinstance(values, PickledArray) and values.ndim == 1:
        values = np.asarray(values).tolist()
    if not isinstance(values, list | tuple | set):
        raise RawError(f"{where}: a list of names is expected")
    names = [value.decode("latin-1") if isinstance(value, bytes) else value for value in values]
    if not all(isinstance(name, str) for name in names):
        raise RawError(f"{where}: names are expected, which are texts")
    return names
