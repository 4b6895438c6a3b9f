"""One subset of a dataset as one HDF5 file, for readers that prefer it to tars: `train.h5`, `test.h5`.

Root datasets `id` (fixed-length UTF-8), `label` (int64) and one a view, `[N,C,T,V,M]`, all in one row order; a
view lies in uncompressed chunks of about 1 MiB, each some whole rows. The root's attributes say what the data is.

HDF5 lays the file out in memory, with the clips' chunks as holes; the clips are then written into their places as
plain bytes. So a full disk is the ordinary error of a write, where HDF5 could neither finish nor close the file.
Reading asks HDF5 once where the chunks lie, and gathers rows from the memory-mapped file after that.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from skelpipe.dataset.sparse_file import SparseFile
from skelpipe.errors import DatasetError
from skelpipe.files import replacing

__all__ = ["map_hdf5", "write_hdf5"]

CHUNK_BYTES = 1 << 20
ALIGNMENT = 64  # of chunks, in bytes: what numpy and memory like, and neighbours stay neighbours
READABLE_BY = ("v108", "v108")  # files that HDF5 1.8 (2008) and whatever is built on it open
AXES = "sample channel frame joint body"
# What the attribute `card` repeats: neither lists of shards nor anything that depends on a library's version.
FACTS = (
    "name",
    "title",
    "split",
    "options",
    "profile",
    "shape",
    "dtype",
    "layout",
    "classes",
    "published",
    "digest",
    "raw_fingerprint",
    "terms",
    "homepage",
)

Shape = tuple[int, int, int, int]


def write_hdf5(
    path: Path,
    ids: Sequence[str],
    labels: np.ndarray,
    views: Mapping[str, Iterable[np.ndarray]],
    shape: Shape,
    dtype: str,
    card: Mapping[str, Any],
    *,
    subset: str,
) -> None:
    """Write one subset, whole or not at all; the same content gives the same bytes with the same h5py.

    `labels` int64 [N]; a view is an iterable of blocks [n,C,T,V,M] with N rows in all, of which one chunk is held
    in memory. `card` is the dataset's card, `subset` "train" or "test". Raises DatasetError where ids, labels and
    clips do not fit together, SkelpipeError where the file cannot be written.
    """
    if len(labels) != len(ids):
        raise DatasetError(f"{path}: {len(ids)} ids, {len(labels)} labels")
    rows = _chunk_rows(len(ids), math.prod(shape) * np.dtype(dtype).itemsize)
    image = SparseFile()
    with h5py.File(image, "w", libver=READABLE_BY, alignment_threshold=4096, alignment_interval=ALIGNMENT) as file:
        _write_facts(file, card, subset)
        _write_table(file, ids, labels)
        for view in views:
            _reserve(file, view, (len(ids), *shape), np.dtype(dtype), rows)
        places = {view: _chunk_places(file[view]) for view in views}
    with replacing(path) as out:
        image.save(out)
        for view, blocks in views.items():
            chunks = _chunks(blocks, len(ids), np.zeros((rows, *shape), dtype), f"{path}: view {view}")
            for number, chunk in enumerate(chunks):
                out.seek(places[view][number * rows][0])
                out.write(chunk.data.cast("B"))


def _chunk_rows(count: int, row_bytes: int) -> int:
    """Return how many rows a chunk holds: about 1 MiB, and where that is possible a multiple of ALIGNMENT."""
    rows = max(1, CHUNK_BYTES // row_bytes)
    step = ALIGNMENT // math.gcd(row_bytes, ALIGNMENT)
    if rows > step:
        rows -= rows % step
    return max(1, min(rows, count))


def _write_facts(file: h5py.File, card: Mapping[str, Any], subset: str) -> None:
    """Write what the data is as attributes of the root: text, lists of text and whole numbers."""
    layout = card["layout"]
    file.attrs.update(
        {
            "name": card["name"],
            "title": card["title"],
            "split": card["split"],
            "side": subset,
            "digest": card["digest"],
            "profile": card["profile"]["name"],
            "profile_version": card["profile"]["version"],
            "layout": layout["name"],
            "joints": list(layout["joints"]),
            "classes": list(card["classes"]),
            "frames": card["shape"][1],
            "units": card.get("units", "metres"),
            "axes": AXES,
            "card": json.dumps({key: card[key] for key in FACTS if key in card}, sort_keys=True),
        }
    )


def _write_table(file: h5py.File, ids: Sequence[str], labels: np.ndarray) -> None:
    encoded = [id_.encode() for id_ in ids]
    kind = h5py.string_dtype("utf-8", max(map(len, encoded), default=1))
    file.create_dataset("id", data=np.array(encoded, kind), dtype=kind)
    file.create_dataset("label", data=np.asarray(labels, np.int64))


def _reserve(file: h5py.File, view: str, shape: tuple[int, ...], dtype: np.dtype, rows: int) -> None:
    """Create a view whose chunks all have their place but whose bytes HDF5 does not write."""
    if shape[0] == 0:  # HDF5 knows no chunks of nothing
        file.create_dataset(view, shape, dtype)
        return
    reserved = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    reserved.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    reserved.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    file.create_dataset(view, shape, dtype, chunks=(rows, *shape[1:]), dcpl=reserved)


def _chunks(blocks: Iterable[np.ndarray], count: int, chunk: np.ndarray, place: str) -> Iterator[np.ndarray]:
    """Yield blocks' rows cut anew into full chunks, each time in the array `chunk`; zeros fill up the last."""
    total = filled = 0
    for block in blocks:
        if block.shape[1:] != chunk.shape[1:]:
            raise DatasetError(f"{place}: clips {list(block.shape[1:])}, {list(chunk.shape[1:])} expected")
        total += len(block)
        if total > count:
            break
        while len(block):
            taken = block[: len(chunk) - filled]
            chunk[filled : filled + len(taken)] = taken
            filled += len(taken)
            block = block[len(taken) :]  # noqa: PLW2901
            if filled == len(chunk):
                yield chunk
                filled = 0
    if total != count:
        raise DatasetError(f"{place}: {total} clips or more, {count} ids")
    if filled:
        chunk[filled:] = 0
        yield chunk


def _chunk_places(dataset: h5py.Dataset) -> dict[int, tuple[int, int, int]]:
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
    return _join(_chunk_places(dataset), dataset.chunks[0], shape, dtype, f"{path}: view {view}")


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
