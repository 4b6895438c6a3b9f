"""The clips of one subset in an HDF5 file, by their rows, for whoever compares them with other containers."""

from threading import Lock

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.dataset.containers import map_subset

__all__ = ["Hdf5Clips"]


class Hdf5Clips:
    """The clips of one subset in its HDF5 file, mapped view by view when they are first read; safe in threads."""

    def __init__(self, dataset: Dataset, subset: str) -> None:
        self.dataset, self.subset = dataset, subset
        self.name: str = dataset.card["hdf5"][subset]["file"]
        self._lock = Lock()
        self._mapped: dict[str, list[np.ndarray]] = {}

    def rows(self, view: str, start: int, stop: int) -> np.ndarray:
        """Return clips as they are stored, [stop-start,C*T*V*M]; DatasetError where the file is damaged."""
        with self._lock:
            if view not in self._mapped:
                card = {**self.dataset.card, "formats": ["hdf5"]}
                ids, geometry = self.dataset.ids(self.subset), self.dataset.geometry(view)
                folder = self.dataset.filesystem.local_path
                self._mapped[view] = map_subset(folder, card, self.subset, geometry, ids)
        pieces, first = [], 0
        for piece in self._mapped[view]:
            inside = piece[max(start - first, 0) : max(stop - first, 0)]
            if len(inside):
                pieces.append(inside)
            first += len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
