"""Statistics of a dataset, computed from its clips."""

from collections.abc import Sequence

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError
from skelpipe.progress import progress

__all__ = ["average_motion", "label_counts"]

AT_ONCE = 256


def average_motion(dataset: Dataset, view: str, subset: str = "train", *, quiet: bool = False) -> np.ndarray:
    """Return the mean clip of one subset, float64 [C,T,V,M], read from the shards (ActCLR, eq. 2)."""
    reader = dataset.reader(subset, view)
    if not len(reader):
        raise DatasetError(f"{dataset.path}: the {subset} subset is empty, it has no average")
    starts = range(0, len(reader), AT_ONCE)
    total = np.zeros(dataset.shape)
    for start in progress(starts, f"average of {view}: blocks", len(starts), quiet=quiet):
        total += reader.gather(np.arange(start, min(start + AT_ONCE, len(reader)))).sum(axis=0, dtype=np.float64)
    return total / len(reader)


def label_counts(labels: Sequence[int] | np.ndarray, classes: int) -> np.ndarray:
    """Return how many samples each class has, int64 [classes]."""
    return np.bincount(np.asarray(labels, np.int64), minlength=classes)
