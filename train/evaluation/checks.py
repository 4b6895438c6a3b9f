"""Whether a dataset's splits can be learned from and tested on."""

from collections.abc import Callable

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError

__all__ = ["check_splits"]


def check_splits(dataset: Dataset, say: Callable[[str], None]) -> None:
    """Raise DatasetError where the training or the test split is empty; say which classes only one of them has."""
    for split in ("train", "test"):
        if not dataset.count(split):
            raise DatasetError(f"{dataset.path}: the {split} split is empty: there is nothing to compare")
    train, test = (set(np.unique(dataset.labels(split)).tolist()) for split in ("train", "test"))
    for missing, where in ((train - test, "test"), (test - train, "training")):
        if missing:
            first = dataset.classes[min(missing)]
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            say(f"no {where} clip is of the class {first!r}{more}")
