"""The clips of one subset and view as a map-style dataset of torch."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from skelpipe.errors import UsageError
from skelpipe.front.arguments import row_numbers
from skelpipe.front.descriptions import counted

__all__ = ["Samples"]


class ClipReader(Protocol):
    def gather(self, rows: np.ndarray) -> np.ndarray: ...


class Source(Protocol):
    """What is needed of a `skelpipe.dataset.Dataset`."""

    path: Any
    views: tuple[str, ...]

    def count(self, subset: str) -> int: ...
    def stored_labels(self, subset: str) -> np.ndarray: ...
    def reader(self, subset: str, view: str) -> ClipReader: ...


class Samples(TorchDataset[dict[str, Any]]):
    """One sample per clip: `clip` float32[C,T,V,M], `label`, and `index`, the row in the subset.

    Labels are those of `Dataset.stored_labels`. Files are opened when the first clip is read, in each process that
    reads; a batch that a DataLoader asks for is read at once. Samples can be pickled.
    """

    def __init__(self, dataset: Source, subset: str, view: str) -> None:
        """Raise UsageError for a subset or a view that the dataset does not have."""
        count = dataset.count(subset)  # which names the subsets there are
        if view not in dataset.views:
            raise UsageError(f"{dataset.path} has no view {view!r}; it has {', '.join(dataset.views)}")
        self.dataset, self.subset, self.view = dataset, subset, view
        self._count = count
        self._open: tuple[ClipReader, np.ndarray] | None = None

    def __repr__(self) -> str:
        clips = counted(len(self), "clip")
        return f"<Samples: {clips} of {self.dataset.path}, subset {self.subset}, view {self.view}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the same files."""
        return Samples, (self.dataset, self.subset, self.view)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample; a negative number counts from the end. Raises IndexError where there is none."""
        (sample,) = self.__getitems__([index])
        return sample

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the samples of a batch, read together."""
        rows = row_numbers(indices)
        if len(rows) and not (rows.min() >= -len(self) and rows.max() < len(self)):
            raise IndexError(f"the subset {self.subset!r} has rows 0 to {len(self) - 1}")
        rows = np.where(rows < 0, rows + len(self), rows)
        if self._open is None:
            labels = np.asarray(self.dataset.stored_labels(self.subset), dtype=np.int64)
            self._open = self.dataset.reader(self.subset, self.view), labels
        reader, labels = self._open
        clips = torch.from_numpy(reader.gather(rows))
        return [
            {"clip": clip, "label": label, "index": row}
            for clip, label, row in zip(clips, labels[rows].tolist(), rows.tolist(), strict=True)
        ]
