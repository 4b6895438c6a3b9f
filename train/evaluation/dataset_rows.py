"""A dataset seen through some of its rows: a labelled share of the training side, a training subject left out."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from skelpipe.dataset import Dataset, Reader
from skelpipe.errors import DatasetError, UsageError
from skelpipe.manifest import SUBSETS
from skelpipe.train.evaluation.labelled_share import labelled_subset

__all__ = ["Division", "labelled", "undivided", "without_subject"]

Part = tuple[str, np.ndarray]  # a side of the whole dataset and rows of it, int64, ascending


class Division(Dataset):
    """Some rows of a dataset under the names of its sides, for streams, loaders and `embed`.

    Rows are numbered anew, from 0, in the order of the whole. The digest is one of its own: neither a training
    state nor figures go from one division to another, or to the whole.
    """

    def __init__(self, whole: Dataset, parts: Mapping[str, Part]) -> None:
        """Show `parts[side]` as each side of `whole`."""
        self.__dict__.update(whole.__dict__)  # all that is not told apart by rows stays
        self.whole = whole
        self.parts = dict(parts)
        text = hashlib.sha256(whole.digest.encode())
        for side in SUBSETS:
            source, rows = self.parts[side]
            text.update(f" {side}={source}:".encode() + np.asarray(rows, "<i8").tobytes())
        self.digest = text.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return Division, (self.whole, self.parts)

    def shard_sizes(self, split: str) -> np.ndarray:
        """Return how many chosen samples each shard of the source has, int64 [S]."""
        source, rows = self._part(split)
        ends = np.cumsum(self.whole.shard_sizes(source))
        shards = np.searchsorted(ends, rows, side="right")
        return np.bincount(shards, minlength=len(ends)).astype(np.int64)

    def labels(self, split: str) -> np.ndarray:
        source, rows = self._part(split)
        chosen: np.ndarray = self.whole.labels(source)[rows]
        return chosen

    def ids(self, split: str) -> list[str]:
        source, rows = self._part(split)
        names = self.whole.ids(source)
        return [names[row] for row in rows.tolist()]

    def reader(self, split: str, view: str) -> Reader:
        source, rows = self._part(split)
        return _Chosen(self.whole.reader(source, view), rows)

    def _part(self, split: str) -> Part:
        if split not in self.parts:
            raise UsageError(f"there is no side {split!r}; there are: {', '.join(self.parts)}")
        return self.parts[split]


class _Chosen(Reader):
    """Rows of another reader."""

    def __init__(self, reader: Reader, rows: np.ndarray) -> None:
        self.shape, self.remote = reader.shape, reader.remote
        self._reader, self._rows = reader, rows

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        rows = np.asarray(rows, np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows go from 0 to {len(self) - 1}")
        return self._reader.gather(self._rows[rows], out)


def labelled(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Return the dataset with round(share * n) training samples of each class of n (spec E4), all where it is 1.

    Raises UsageError for a share outside (0,1] and where no class has enough samples for one.
    """
    if share == 1:
        return dataset
    rows = labelled_subset(dataset.ids("train"), dataset.labels("train"), share, seed)
    return Division(dataset, {"train": ("train", rows), "test": ("test", _all(dataset, "test"))})


def without_subject(dataset: Dataset, subject: int) -> Division:
    """Return the training side divided: one subject's samples are tested on, the others' trained on.

    For choosing settings: the test side, and with it the test subjects, is out of reach. Raises UsageError where
    the training side has no such subject, and DatasetError where it has no other.
    """
    subjects = _subjects(dataset, "train")
    known = sorted(set(subjects.tolist()))
    if subject not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise UsageError(f"--holdout-subject {subject}: no training clip is of that subject; subjects: {listed}")
    if len(known) == 1:
        raise DatasetError(f"{dataset.path}: all training clips are of subject {subject}: none would be left")
    held = subjects == subject
    return Division(dataset, {"train": ("train", np.flatnonzero(~held)), "test": ("train", np.flatnonzero(held))})


def undivided(dataset: Dataset) -> Dataset:
    """Return the dataset as it was prepared, of which this one may be a division."""
    return undivided(dataset.whole) if isinstance(dataset, Division) else dataset


def _all(dataset: Dataset, split: str) -> np.ndarray:
    return np.arange(dataset.count(split), dtype=np.int64)


def _subjects(dataset: Dataset, split: str) -> np.ndarray:
    """Return the subject of each sample of a side, int64 [N], in row order."""
    table = dataset.table().select(["id", "subject", "split"]).to_pydict()
    of = {
        id_: subject
        for id_, subject, side in zip(table["id"], table["subject"], table["split"], strict=True)
        if side == split
    }
    found = [of[id_] for id_ in dataset.ids(split)]
    if None in found:
        raise DatasetError(f"{dataset.path}: does not say which subject each clip shows")
    return np.array(found, np.int64)
