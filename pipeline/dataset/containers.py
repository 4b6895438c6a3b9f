"""The containers of a dataset's clips: tar shards, HDF5 files, or both. Rows are the same in either."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.dataset.card import SAMPLES
from skelpipe.dataset.hdf5 import map_hdf5, write_hdf5
from skelpipe.dataset.parquet import read_parquet
from skelpipe.dataset.tar_shard import Geometry, check_shard
from skelpipe.errors import DatasetError
from skelpipe.files import size_and_hash
from skelpipe.manifest import SUBSETS
from skelpipe.views import VIEWS

__all__ = ["map_rows", "map_subset", "remove_shards", "write_hdf5_subsets"]

AT_ONCE = 256  # rows copied from shards to HDF5


def map_rows(shard: np.ndarray, geometry: Geometry, ids: Sequence[str], place: str) -> np.ndarray:
    """Return the clips of a shard's bytes (uint8) as rows [n,C*T*V*M] of the stored type, without a copy.

    Raises DatasetError naming `place` where it is not the shard of these samples.
    """
    check_shard(shard, geometry, ids, place)
    records = shard[: len(ids) * geometry.stride].reshape(len(ids), geometry.stride)
    return geometry.arrays(records).reshape(len(ids), -1)


def map_subset(
    folder: Path, card: Mapping[str, Any], subset: str, geometry: Geometry, ids: Sequence[str]
) -> list[np.ndarray]:
    """Map the clips of one subset and view into memory, in row order: arrays [n,C*T*V*M] of the stored type.

    Raises DatasetError naming the file where it is not what the card says.
    """
    if "shards" not in card["formats"]:
        facts = card.get("hdf5", {}).get(subset)
        if facts is None:
            return []
        return map_hdf5(folder / facts["file"], geometry.view, ids, geometry.shape, geometry.dtype)
    pieces = []
    start = 0
    for shard in card["splits"][subset]["shards"]:
        path = folder / subset / geometry.view / f"{shard['name']}.tar"
        pieces.append(map_rows(_map_file(path), geometry, ids[start : start + shard["samples"]], str(path)))
        start += shard["samples"]
    return pieces


def _map_file(path: Path) -> np.ndarray:
    try:
        return np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:  # an empty file is a ValueError
        reason = error.strerror if isinstance(error, OSError) else "the file is empty"
        raise DatasetError(f"{path}: cannot be read: {reason}") from None


def write_hdf5_subsets(card: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write `train.h5` and `test.h5` from the tar shards of a finished dataset; return the card's entry of them.

    `card` lacks nothing but that entry.
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
    """Remove the tar shards of a dataset that has its clips in HDF5 files."""
    for subset in SUBSETS:
        if card["splits"][subset]["samples"]:
            shutil.rmtree(folder / subset)


def _table(path: Path, subset: str) -> tuple[list[str], np.ndarray]:
    """Ids and labels of a subset in row order, which is the order of shard and row."""
    table = read_parquet(path.read_bytes(), ["id", "label", "split", "shard", "row"])
    rows = [row for row in table.to_pylist() if row["split"] == subset and row["shard"] is not None]
    rows.sort(key=lambda row: (row["shard"], row["row"]))
    return [row["id"] for row in rows], np.array([row["label"] for row in rows], np.int64)


def _blocks(pieces: Sequence[np.ndarray], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    for piece in pieces:
        for start in range(0, len(piece), AT_ONCE):
            yield piece[start : start + AT_ONCE].reshape(-1, *shape)
