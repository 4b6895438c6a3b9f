"""A dataset reduced to some of its rows: a labelled share of the train subset, a training subject left out."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skelpipe.dataset import Dataset, Reader
from skelpipe.errors import DatasetError, UsageError
from skelpipe.manifest import SUBSETS

if TYPE_CHECKING:
    from skelpipe.dataset.mapped_clips import MappedClips

__all__ = ["DatasetRows", "full_dataset", "labelled", "labelled_rows", "without_subject"]

Rows = tuple[str, np.ndarray]  # a subset of the full dataset and rows of it, int64, ascending


class DatasetRows(Dataset):
    """Some rows of a dataset under the names of its subsets, for streams, loaders and `embed`.

    Rows are numbered anew, from 0, in the order of the full dataset. The digest is one of its own, so that
    states and figures of other rows are never mistaken for those of these rows.
    """

    def __init__(self, full: Dataset, rows: Mapping[str, Rows]) -> None:
        """Let each subset consist of `rows[subset]`."""
        self.__dict__.update(full.__dict__)  # all that does not depend on the rows stays
        self.full = full
        self.rows = dict(rows)
        text = hashlib.sha256(full.digest.encode())
        for subset in SUBSETS:
            source, chosen = self.rows[subset]
            text.update(f" {subset}={source}:".encode() + np.asarray(chosen, "<i8").tobytes())
        self.digest = text.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return DatasetRows, (self.full, self.rows)

    def shard_sizes(self, subset: str) -> np.ndarray:
        """Return how many chosen samples each shard of the source has, int64 [S]."""
        source, rows = self._rows(subset)
        ends = np.cumsum(self.full.shard_sizes(source))
        shards = np.searchsorted(ends, rows, side="right")
        return np.bincount(shards, minlength=len(ends)).astype(np.int64)

    def stored_labels(self, subset: str) -> np.ndarray:
        source, rows = self._rows(subset)
        chosen: np.ndarray = self.full.stored_labels(source)[rows]
        return chosen

    def ids(self, subset: str) -> list[str]:
        source, rows = self._rows(subset)
        names = self.full.ids(source)
        return [names[row] for row in rows.tolist()]

    def reader(self, subset: str, view: str) -> Reader:
        source, rows = self._rows(subset)
        return _RowsReader(self.full.reader(source, view), rows)

    def _rows(self, subset: str) -> Rows:
        if subset not in self.rows:
            raise UsageError(f"there is no subset {subset!r}; there are: {', '.join(self.rows)}")
        return self.rows[subset]


class _RowsReader(Reader):
    """Rows of another reader."""

    def __init__(self, reader: Reader, rows: np.ndarray) -> None:
        self.shape, self.remote = reader.shape, reader.remote
        self._reader, self._rows = reader, rows

    def __reduce__(self) -> tuple[Any, ...]:
        return _RowsReader, (self._reader, self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def mapped(self, rows: np.ndarray) -> "MappedClips | None":
        return self._reader.mapped(self._rows[self._checked(rows)])

    def confirm(self) -> None:
        self._reader.confirm()

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return self._reader.gather(self._rows[self._checked(rows)], out)


def labelled(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Return the dataset with a share of the training samples, see `labelled_rows`, and all test samples.

    With a share of 1 it is the dataset itself. Raises UsageError for a share outside (0,1] and where no class has
    enough samples for one.
    """
    if share == 1:
        return dataset
    rows = labelled_rows(dataset.ids("train"), dataset.labels("train"), share, seed)
    everything = np.arange(dataset.count("test"), dtype=np.int64)
    return DatasetRows(dataset, {"train": ("train", rows), "test": ("test", everything)})


def labelled_rows(ids: Sequence[str], labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Return the rows of round(share * n) samples of each class of n, int64, ascending (docs/evaluation.md).

    Rounding is Python's (half to even). A sample's rank within its class is a hash of the seed and its id: the
    choice is the same on every machine, at any shard size, in any order of the rows. Raises UsageError for a share
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


def without_subject(dataset: Dataset, subject: int) -> DatasetRows:
    """Return the train subset divided: the clips of one subject to test on, those of the others to train on.

    For choosing settings: the test subset, and with it the test subjects, is not used at all. Raises UsageError
    where the train subset has no such subject, and DatasetError where it has no other.
    """
    subjects = _subjects(dataset, "train")
    known = sorted(set(subjects.tolist()))
    if subject not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise UsageError(f"--holdout-subject {subject}: no training clip is of that subject; subjects: {listed}")
    if len(known) == 1:
        raise DatasetError(f"{dataset.path}: all training clips are of subject {subject}: none would be left")
    held = subjects == subject
    rows = {"train": ("train", np.flatnonzero(~held)), "test": ("train", np.flatnonzero(held))}
    return DatasetRows(dataset, rows)


def full_dataset(dataset: Dataset) -> Dataset:
    """Return the dataset as it was prepared, of which this one may have only some rows."""
    return full_dataset(dataset.full) if isinstance(dataset, DatasetRows) else dataset


def _subjects(dataset: Dataset, subset: str) -> np.ndarray:
    """Return the subject of each sample of a subset, int64 [N], in row order."""
    table = dataset.table().select(["id", "subject", "split"]).to_pydict()
    of = {
        id_: subject
        for id_, subject, each in zip(table["id"], table["subject"], table["split"], strict=True)
        if each == subset
    }
    found = [of[id_] for id_ in dataset.ids(subset)]
    if None in found:
        raise DatasetError(f"{dataset.path}: does not say which subject each clip shows")
    return np.array(found, np.int64)
