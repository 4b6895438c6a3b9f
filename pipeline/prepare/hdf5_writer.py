"""Write the clips of one subset as one HDF5 file (`skelpipe.dataset.hdf5` describes its layout and reads it).

HDF5 writes a file in memory with gaps for the chunks of clips. The clips are then written into these gaps as plain
bytes. So a full disk gives an ordinary write error; HDF5 itself could neither finish nor close the file.
"""

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from skelpipe.dataset.card import SAMPLES
from skelpipe.dataset.containers import map_subset
from skelpipe.dataset.hdf5 import Shape, chunk_offsets
from skelpipe.dataset.parquet import read_parquet
from skelpipe.dataset.tar_shard import Geometry
from skelpipe.errors import DatasetError
from skelpipe.files import replacing, size_and_hash
from skelpipe.manifest import SUBSETS
from skelpipe.prepare.sparse_file import SparseFile
from skelpipe.views import VIEWS

__all__ = ["remove_shards", "write_hdf5", "write_hdf5_subsets"]

AT_ONCE = 256  # rows copied from shards to HDF5
CHUNK_BYTES = 1 << 20
ALIGNMENT = 64  # of chunks, in bytes: fast for numpy, and chunks stay adjacent
READABLE_BY = ("v108", "v108")  # HDF5 1.8 (2008) and all later versions open such files
AXES = "sample channel frame joint body"
# The card's keys in the attribute `card`: no lists of shards, nothing that depends on the version of a library.
FACTS = (
    "name",
    "title",
    "split",
    "options",
    "profile",
    "shape",
    "channels",
    "dtype",
    "layout",
    "classes",
    "published",
    "digest",
    "raw_fingerprint",
    "terms",
    "homepage",
)


def write_hdf5_subsets(card: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write `train.h5` and `test.h5` from the tar shards of a finished dataset; return their entry in the card.

    `card` is complete except for that entry.
    """
    written: dict[str, Any] = {}
    shards = {**card, "formats": ["shards"]}
    for subset in SUBSETS:
        if not card["splits"][subset]["samples"]:
            continue
        ids, labels = _table(folder / SAMPLES, subset)
        shape, dtype = tuple(card["shape"]), card["dtype"]
        pieces = {view: map_subset(folder, shards, subset, Geometry(view, shape, dtype), ids) for view in VIEWS}
        blocks = {view: _blocks(pieces[view], shape) for view in VIEWS}
        path = folder / f"{subset}.h5"
        write_hdf5(path, ids, labels, blocks, shape, dtype, card, subset=subset)
        size, sha256 = size_and_hash(path)
        written[subset] = {"file": path.name, "bytes": size, "sha256": sha256}
    return written


def remove_shards(card: Mapping[str, Any], folder: Path) -> None:
    """Remove the tar shards of a dataset whose clips are in HDF5 files."""
    for subset in SUBSETS:
        if card["splits"][subset]["samples"]:
            shutil.rmtree(folder / subset)


def _table(path: Path, subset: str) -> tuple[list[str], np.ndarray]:
    """Return ids and labels of a subset, sorted by shard and row."""
    table = read_parquet(path.read_bytes(), ["id", "label", "split", "shard", "row"])
    rows = [row for row in table.to_pylist() if row["split"] == subset and row["shard"] is not None]
    rows.sort(key=lambda row: (row["shard"], row["row"]))
    return [row["id"] for row in rows], np.array(
        [-1 if row["label"] is None else row["label"] for row in rows], np.int64
    )


def _blocks(pieces: Sequence[np.ndarray], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    for piece in pieces:
        for start in range(0, len(piece), AT_ONCE):
            yield piece[start : start + AT_ONCE].reshape(-1, *shape)


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
    """Write one subset, completely or not at all; equal content gives equal bytes with the same h5py.

    `labels` is int64 [N]; a view is an iterable of blocks [n,C,T,V,M] with N rows in total, of which one chunk is
    in memory at a time. `card` is the dataset's card, `subset` "train" or "test". Raises DatasetError if ids,
    labels and clips do not fit together, SkelpipeError if the file cannot be written.
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
        offsets = {view: chunk_offsets(file[view]) for view in views}
    with replacing(path) as out:
        image.save(out)
        for view, blocks in views.items():
            chunks = _chunks(blocks, len(ids), np.zeros((rows, *shape), dtype), f"{path}: view {view}")
            for number, chunk in enumerate(chunks):
                out.seek(offsets[view][number * rows][0])
                out.write(chunk.data.cast("B"))


def _chunk_rows(count: int, row_bytes: int) -> int:
    """Return the number of rows of a chunk: about 1 MiB, if possible a multiple of ALIGNMENT bytes."""
    rows = max(1, CHUNK_BYTES // row_bytes)
    step = ALIGNMENT // math.gcd(row_bytes, ALIGNMENT)
    if rows > step:
        rows -= rows % step
    return max(1, min(rows, count))


def _write_facts(file: h5py.File, card: Mapping[str, Any], subset: str) -> None:
    """Write the description of the data as attributes of the root: texts, lists of texts and integers."""
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
    """Create a view with all its chunks allocated, but not written by HDF5."""
    if shape[0] == 0:  # HDF5 has no chunks in an empty dataset
        file.create_dataset(view, shape, dtype)
        return
    reserved = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    reserved.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    reserved.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    file.create_dataset(view, shape, dtype, chunks=(rows, *shape[1:]), dcpl=reserved)


def _chunks(blocks: Iterable[np.ndarray], count: int, chunk: np.ndarray, where: str) -> Iterator[np.ndarray]:
    """Yield the rows of all blocks as full chunks, always in the array `chunk`; zeros fill up the last one."""
    total = filled = 0
    for block in blocks:
        if block.shape[1:] != chunk.shape[1:]:
            raise DatasetError(f"{where}: clips {list(block.shape[1:])}, {list(chunk.shape[1:])} expected")
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
        raise DatasetError(f"{where}: {total} clips or more, {count} ids")
    if filled:
        chunk[filled:] = 0
        yield chunk
