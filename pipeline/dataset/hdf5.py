"""One subset of a dataset as one HDF5 file, for readers that prefer it to tars: `train.h5`, `test.h5`.

Root datasets `id` (fixed-length UTF-8), `label` (int64) and one a view, `[N,C,T,V,M]`, all in one row order; a
view lies in uncompressed chunks of about 1 MiB, each some whole rows. The root's attributes say what the data is.

Reading asks HDF5 once where the chunks lie, and gathers rows from the memory-mapped file after that.
`skelpipe.prepare.hdf5_writer` writes these files.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from skelpipe.errors import DatasetError

__all__ = ["Shape", "chunk_places", "map_hdf5"]

Shape = tuple[int, int, int, int]


def chunk_places(dataset: h5py.Dataset) -> dict[int, tuple[int, int, int]]:
    """Return (offset in the file, bytes, mask of skipped filters) of each chunk by its first row."""
    places: dict[int, tuple[int, int, int]] = {}
    if dataset.chunks is not None:

        def note(info: Any) -> None:
            places[info.chunk_offset[0]] = (info.byte_offset, info.size, info.filter_mask)

        dataset.id.chunk_iter(note)
    return places


def map_hdf5(path: Path, view: str, ids: Sequence[str], shape: Shape, dtype: str) -> list[np.ndarray]:
    """Map one view's clips into memory: arrays [rows,C*T*V*M] of `dtype`, read-only, in row order.

    Each array is a run of chunks that follow one another in the file; together they have a row for each of `ids`.
    Raises DatasetError where the file is missing, damaged or cut off, holds other ids, shapes or types, or
    keeps its clips in another way than `write_hdf5` does.
    """
    try:
        mapped = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    except (OSError, ValueError) as error:  # an empty file is a ValueError
        reason = error.strerror if isinstance(error, OSError) else "the file is empty"
        raise DatasetError(f"{path}: cannot be read: {reason}") from None
    try:
        with h5py.File(path, "r", locking=False) as file:
            _check_ids(file, ids, path)
            runs = _runs(file, view, (len(ids), *shape), np.dtype(dtype), path)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:  # HDF5 raises any of them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DatasetError(f"{path}: cannot be read as HDF5, perhaps cut off: {reason}") from None
    row_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    clips = []
    for offset, rows in runs:
        content = mapped[offset : offset + rows * row_bytes]
        if len(content) != rows * row_bytes:
            raise DatasetError(f"{path}: view {view} goes on behind the file's end: the file is cut off")
        clips.append(content.view(dtype).reshape(rows, math.prod(shape)))
    return clips


def _check_ids(file: h5py.File, ids: Sequence[str], path: Path) -> None:
    stored = _dataset(file, "id", path)
    if stored.shape != (len(ids),) or h5py.check_string_dtype(stored.dtype) is None:
        raise DatasetError(f"{path}: id is {stored.dtype} {list(stored.shape)}, {len(ids)} texts expected")
    for row, (found, wanted) in enumerate(zip(stored.asstr()[:], ids, strict=True)):
        if found != wanted:
            raise DatasetError(f"{path}: sample {row} is {found!r}, {wanted!r} is expected: not this card's file")


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Return a dataset of this very file; offsets of one linked from elsewhere would mean nothing."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise DatasetError(f"{path}: has no dataset {name!r}")
    return file[name]


def _runs(
    file: h5py.File, view: str, shape: tuple[int, ...], dtype: np.dtype, path: Path
) -> list[tuple[int, int]]:
    """Return (offset in the file, rows) of each run of adjacent chunks of a view, in row order."""
    dataset = _dataset(file, view, path)
    if dataset.shape != shape or dataset.dtype != dtype:
        found, wanted = (f"{kind} {list(size)}" for kind, size in ((dataset.dtype, dataset.shape), (dtype, shape)))
        raise DatasetError(f"{path}: view {view} is {found}, {wanted} expected")
    if not len(dataset):
        return []
    plain = dataset.chunks is not None and dataset.chunks[1:] == shape[1:] and not file.userblock_size
    if not plain or dataset.id.get_create_plist().get_nfilters():
        raise DatasetError(
            f"{path}: view {view} does not lie in uncompressed chunks of whole clips; prepare it again"
        )
    return _join(chunk_places(dataset), dataset.chunks[0], shape, dtype, f"{path}: view {view}")


def _join(
    places: Mapping[int, tuple[int, int, int]], rows: int, shape: tuple[int, ...], dtype: np.dtype, place: str
) -> list[tuple[int, int]]:
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    runs: list[tuple[int, int]] = []
    for start in range(0, shape[0], rows):
        offset, size, _ = places.get(start, (0, 0, 0))
        if size != rows * row_bytes:
            raise DatasetError(f"{place}: the chunk of rows {start} and up is missing or damaged")
        held = min(rows, shape[0] - start)
        if runs and runs[-1][0] + runs[-1][1] * row_bytes == offset:
            runs[-1] = (runs[-1][0], runs[-1][1] + held)
        else:
            runs.append((offset, held))
    return runs
