"""DALI's indices of a view's shards, cut into indices of one sample each.

DALI reads the samples of an index from first to last. Given one index a sample, it reads them in whatever order
the indices are listed. Row r lies at the same place in all shards of a view, so one such index serves them all.
"""

import hashlib
import re
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError

__all__ = ["RowIndices"]


class RowIndices:
    """Indices of single rows in a temporary folder, each written when it is first asked for."""

    def __init__(self, dataset: Dataset, subset: str, view: str) -> None:
        """Read the `.idx` of every shard. Raises DatasetError for one that is missing or not the card's."""
        self.tars: list[str] = []
        self._entries: list[str] = []
        component = re.compile(rf" {re.escape(view)}\.npy (\d+) (\d+) ")
        for shard in dataset.shards(subset):
            tar = dataset.filesystem.local_path / subset / view / f"{shard['name']}.tar"
            text = _read_index(tar.with_suffix(".idx"), shard["views"][view]["idx_sha256"])
            self.tars.append(str(tar))
            if shard["samples"] > len(self._entries):
                self._entries = [f"{view}.npy {at} {size}" for at, size in component.findall(text)]
        self._folder = Path(tempfile.mkdtemp(prefix="skelpipe-dali-"))
        self._written: set[int] = set()
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def paths(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the index of each of these rows, counted from the start of a shard."""
        for row in set(rows.tolist()) - self._written:
            self._path(row).write_text(f"v1.2 1\n{self._entries[row]} row-{row}\n")
            self._written.add(row)
        return [str(self._path(row)) for row in rows.tolist()]

    def _path(self, row: int) -> Path:
        return self._folder / f"{row}.idx"


def _read_index(path: Path, sha256: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read, and DALI needs it: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DatasetError(f"{path}: is not the index that was written with its shard; copy or prepare it again")
    return content.decode()
