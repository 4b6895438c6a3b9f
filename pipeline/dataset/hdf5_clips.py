"""The clips of one subset in an HDF5 file, by their rows, for whoever compares them with other containers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.dataset.hdf5 import check_facts, map_hdf5, read_names
from skelpipe.errors import DatasetError, SkelpipeError
from skelpipe.files import HashingWriter, replacing, size_and_hash_of
from skelpipe.storage.filesystem import at_most

__all__ = ["Hdf5Clips"]


class Hdf5Clips:
    """The clips of one subset in its HDF5 file, mapped view by view when they are first read; safe in threads.

    Ids and labels are those of the file itself. A file at a URL is fetched into `folder` when it is first needed,
    and stays there. What reads it raises DatasetError where it is damaged.
    """

    def __init__(self, dataset: Dataset, subset: str, folder: Path) -> None:
        self.dataset, self.subset = dataset, subset
        facts = dataset.card["hdf5"][subset]
        self.name: str = facts["file"]
        self.where = f"{dataset.filesystem}/{self.name}"
        self._bytes: int = facts["bytes"]
        self._folder = folder
        self._lock = Lock()
        self._fetched: tuple[int, str] | SkelpipeError | None = None
        self._names: tuple[Sequence[str], np.ndarray] | None = None
        self._mapped: dict[str, list[np.ndarray]] = {}

    def size_and_hash(self) -> tuple[int, str]:
        """Return the file's size in bytes and its sha256; SkelpipeError where it cannot be read."""
        with self._lock:
            self._path()
        return self._fetched if isinstance(self._fetched, tuple) else size_and_hash_of(self._pieces())

    def names(self) -> tuple[Sequence[str], np.ndarray]:
        """Return ids and labels, int64[N], by row."""
        with self._lock, self._called_by_name():
            if self._names is None:
                self._names = read_names(self._path(), self.dataset.count(self.subset))
            return self._names

    def wrong_facts(self) -> list[str]:
        """Return a line for each fact in the file's attributes that is not the card's."""
        with self._lock, self._called_by_name():
            return [self._by_name(line) for line in check_facts(self._path(), self.dataset.card, self.subset)]

    def rows(self, view: str, start: int, stop: int) -> np.ndarray:
        """Return clips as they are stored, [stop-start,C*T*V*M]."""
        ids, _ = self.names()
        with self._lock, self._called_by_name():
            if view not in self._mapped:
                geometry = self.dataset.geometry(view)
                self._mapped[view] = map_hdf5(self._path(), view, ids, geometry.shape, geometry.dtype)
        pieces, first = [], 0
        for piece in self._mapped[view]:
            inside = piece[max(start - first, 0) : max(stop - first, 0)]
            if len(inside):
                pieces.append(inside)
            first += len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _path(self) -> Path:
        """Return where the file is on this machine; whoever calls holds the lock."""
        filesystem = self.dataset.filesystem
        if filesystem.is_local:
            return filesystem.local_path / self.name
        path = self._folder / self.name
        if self._fetched is None:
            self._fetched = self._fetch(path)
        if isinstance(self._fetched, SkelpipeError):
            raise self._fetched
        return path

    def _fetch(self, path: Path) -> tuple[int, str] | SkelpipeError:
        """Return size and hash of the file, now at `path`, or why it cannot be had: nobody asks for it again."""
        try:
            with replacing(path, needs=self._bytes) as file:
                writer = HashingWriter(file)
                for piece in self._pieces():
                    writer.write(piece)
        except SkelpipeError as error:
            return error
        return writer.size, writer.sha256

    def _pieces(self) -> Iterator[bytes]:
        return at_most(self.dataset.filesystem.stream(self.name), self._bytes)

    def _by_name(self, line: str) -> str:
        """Return a line that names the file of the dataset, not the copy of it."""
        return line.replace(str(self._folder / self.name), self.where)

    @contextmanager
    def _called_by_name(self) -> Iterator[None]:
        try:
            yield
        except DatasetError as error:
            raise DatasetError(self._by_name(str(error))) from None
