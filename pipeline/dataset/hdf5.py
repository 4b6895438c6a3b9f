"""One subset of a dataset as one HDF5 file, for readers that prefer it to tars: `train.h5`, `test.h5`.

The root holds datasets `id` (fixed-length UTF-8), `label` (int64) and one per view, `[N,C,T,V,M]`, all in the same
row order. A view consists of uncompressed chunks of about 1 MiB, each of some whole rows. The attributes of the
root describe the data.

Reading asks HDF5 once for the offsets of the chunks, and then uses rows of the memory-mapped file.
`skelpipe.prepare.hdf5_writer` writes these files.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from skelpipe.errors import DatasetError
from skelpipe.mapped_files import map_file
from skelpipe.untrusted import described, require_plain, shown

__all__ = ["Shape", "check_facts", "chunk_offsets", "map_hdf5", "read_names"]

Shape = tuple[int, int, int, int]

LONGEST_ID = 4096  # bytes


def chunk_offsets(dataset: h5py.Dataset) -> dict[int, tuple[int, int, int]]:
    """Return (offset in the file, bytes, mask of skipped filters) of each chunk, by its first row."""
    chunks: dict[int, tuple[int, int, int]] = {}
    if dataset.chunks is not None:

        def note(info: Any) -> None:
            chunks[info.chunk_offset[0]] = (info.byte_offset, info.size, info.filter_mask)

        dataset.id.chunk_iter(note)
    return chunks


def map_hdf5(path: Path, view: str, ids: Sequence[str], shape: Shape, dtype: str) -> list[np.ndarray]:
    """Map one view's clips into memory: arrays [rows,C*T*V*M] of `dtype`, read-only, in row order.

    Each array is a run of adjacent chunks; together they have one row for each of `ids`. Raises DatasetError where
    the file is missing, damaged or cut off, has other ids, shapes or types, or another layout than described
    above.
    """
    mapped = map_file(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            _check_ids(file, ids, path)
            runs = _runs(file, view, (len(ids), *shape), np.dtype(dtype), path)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:  # HDF5 raises any of them
        raise _unreadable(path, error) from None
    row_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    clips = []
    for offset, rows in runs:
        content = mapped[offset : offset + rows * row_bytes]
        if len(content) != rows * row_bytes:
            raise DatasetError(f"{path}: view {view} ends after the end of the file: the file is cut off")
        clips.append(content.view(dtype).reshape(rows, math.prod(shape)))
    return clips


def read_names(path: Path, count: int) -> tuple[list[str], np.ndarray]:
    """Return ids and labels, int64[N], of the `count` clips in a file; DatasetError as `map_hdf5`."""
    try:
        require_plain(path)
        with h5py.File(path, "r", locking=False) as file:
            ids = _ids(file, count, path)
            labels = _dataset(file, "label", path)
            if labels.shape != (count,) or labels.dtype.kind not in "iu":
                raise DatasetError(
                    f"{path}: label is {labels.dtype} {list(labels.shape)}, {count} whole numbers expected"
                )
            return ids, labels[:].astype(np.int64)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def check_facts(path: Path, card: Mapping[str, Any], subset: str) -> Iterator[str]:
    """Yield a line for each fact in a file's attributes that is not the card's; DatasetError as `map_hdf5`."""
    try:
        require_plain(path)
        with h5py.File(path, "r", locking=False) as file:
            facts = dict(file.attrs)
            said = json.loads(facts.get("card", "{}"))
            if not isinstance(said, dict):
                raise ValueError("its attribute 'card' is no card")
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from None
    expected = {
        "digest": card["digest"],
        "side": subset,
        "split": card["split"],
        "layout": card["layout"]["name"],
        "joints": list(card["layout"]["joints"]),
        "classes": list(card["classes"]),
    }
    for key, value in expected.items():
        own = facts.get(key, value)  # files of earlier versions may lack some
        if (list(own) if isinstance(value, list) else own) != value:
            yield f"{path}: its attribute {key!r} is not the card's"
    if differing := next((key for key, value in said.items() if value != card.get(key)), None):
        yield f"{path}: {differing!r} in its attribute 'card' is not the card's"


def _unreadable(path: Path, error: Exception) -> DatasetError:
    reason = shown(error) or type(error).__name__
    return DatasetError(f"{path}: cannot be read as HDF5, perhaps cut off: {reason}")


def _ids(file: h5py.File, count: int, path: Path) -> list[str]:
    dataset = _dataset(file, "id", path)
    if dataset.shape != (count,) or not _is_short_text(dataset):
        raise DatasetError(f"{path}: id is {dataset.dtype} {list(dataset.shape)}, {count} texts expected")
    return list(dataset.asstr()[:])


def _check_ids(file: h5py.File, ids: Sequence[str], path: Path) -> None:
    for row, (found, expected) in enumerate(zip(_ids(file, len(ids), path), ids, strict=True)):
        if found != expected:
            named = f"{described(found)}, {described(expected)} is expected"
            raise DatasetError(f"{path}: sample {row} is {named}: not the card's file")


def _is_short_text(dataset: h5py.Dataset) -> bool:
    """Whether these are texts of one length, as they are written; others can stand for any number of bytes."""
    kind = h5py.check_string_dtype(dataset.dtype)
    return kind is not None and kind.length is not None and kind.length <= LONGEST_ID


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Return a dataset of this file, not one linked from another: its offsets would be those of the other file."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise DatasetError(f"{path}: has no dataset {name!r}")
    dataset = file[name]
    if dataset.external or dataset.is_virtual:
        raise DatasetError(f"{path}: {name!r} lies in other files")
    return dataset


def _runs(
    file: h5py.File, view: str, shape: tuple[int, ...], dtype: np.dtype, path: Path
) -> list[tuple[int, int]]:
    """Return (offset in the file, rows) of each run of adjacent chunks of a view, in row order."""
    dataset = _dataset(file, view, path)
    if dataset.shape != shape or dataset.dtype != dtype:
        found, expected = (
            f"{kind} {list(size)}" for kind, size in ((dataset.dtype, dataset.shape), (dtype, shape))
        )
        raise DatasetError(f"{path}: view {view} is {found}, {expected} expected")
    if not len(dataset):
        return []
    plain = dataset.chunks is not None and dataset.chunks[1:] == shape[1:] and not file.userblock_size
    if not plain or dataset.id.get_create_plist().get_nfilters():
        raise DatasetError(
            f"{path}: view {view} is not stored in uncompressed chunks of whole clips; prepare it again"
        )
    return _join(chunk_offsets(dataset), dataset.chunks[0], shape, dtype, f"{path}: view {view}")


def _join(
    chunks: Mapping[int, tuple[int, int, int]], rows: int, shape: tuple[int, ...], dtype: np.dtype, where: str
) -> list[tuple[int, int]]:
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    runs: list[tuple[int, int]] = []
    for start in range(0, shape[0], rows):
        offset, size, _ = chunks.get(start, (0, 0, 0))
        if size != rows * row_bytes:
            raise DatasetError(f"{where}: the chunk of rows {start} and up is missing or damaged")
        count = min(rows, shape[0] - start)
        if runs and runs[-1][0] + runs[-1][1] * row_bytes == offset:
            runs[-1] = (runs[-1][0], runs[-1][1] + count)
        else:
            runs.append((offset, count))
    return runs
