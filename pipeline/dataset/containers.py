"""The containers of clips, tar shards or HDF5 files, mapped into memory as the same rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.dataset.hdf5 import map_hdf5
from skelpipe.dataset.tar_shard import Geometry, check_shard
from skelpipe.mapped_files import map_file

__all__ = ["map_rows", "map_subset"]


def map_rows(
    shard: np.ndarray, geometry: Geometry, ids: Sequence[str], where: str, *, named: bool = True
) -> np.ndarray:
    """Return the clips in a shard's bytes (uint8) as rows [n,C*T*V*M] of the dataset's type, without a copy.

    Unless `named`, only the number of `ids` is looked at, not what they are. Raises DatasetError, beginning with
    `where`, if it is not the shard of these samples.
    """
    check_shard(shard, geometry, ids, where, named=named)
    records = shard[: len(ids) * geometry.stride].reshape(len(ids), geometry.stride)
    return geometry.arrays(records).reshape(len(ids), -1)


def map_subset(
    folder: Path,
    card: Mapping[str, Any],
    subset: str,
    geometry: Geometry,
    ids: Sequence[str],
    *,
    named: bool = True,
) -> list[np.ndarray]:
    """Map the clips of one subset and view into memory, in row order: arrays [n,C*T*V*M] of the dataset's type.

    `named` is as in `map_rows`; of HDF5 files, ids are always compared. Raises DatasetError with the name of a
    file that differs from the card.
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
        own = ids[start : start + shard["samples"]]
        pieces.append(map_rows(map_file(path), geometry, own, str(path), named=named))
        start += shard["samples"]
    return pieces
