"""Labelled subsets for semi-supervised evaluation (spec E4), the same on every machine and at any shard size."""

import hashlib
from collections.abc import Sequence

import numpy as np

from skelpipe.errors import UsageError

__all__ = ["labelled_subset"]


def labelled_subset(ids: Sequence[str], labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Return the rows of round(share * n) samples of each class of n, int64, ascending.

    Rounding is Python's (half to even). A sample's rank within its class is a hash of the seed and its id, so the
    choice knows neither the order of the rows nor the version of a random generator. Raises UsageError for a share
    outside (0,1] and where nothing would be left.
    """
    if not 0 < share <= 1:
        raise UsageError(f"--labels {share}: a share of the labels above 0 and up to 1 is expected")
    ranks = [hashlib.sha256(f"{seed} {identity}".encode()).digest() for identity in ids]
    order = np.array(sorted(range(len(ids)), key=ranks.__getitem__), np.int64)
    chosen = []
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        chosen.append(of_class[: round(share * len(of_class))])
    rows = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
    if not len(rows):
        raise UsageError(f"--labels {share}: no class has enough clips for one of them")
    return rows
