"""A prepared dataset, open for reading: its card, its sample table and its shards as arrays."""

import math
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.card import SAMPLES, read_card, read_samples
from skelpipe.containers import map_side
from skelpipe.errors import DatasetError, UsageError
from skelpipe.manifest import SIDES
from skelpipe.skeleton import Layout
from skelpipe.storage import local_folder
from skelpipe.tarshard import Geometry
from skelpipe.untrimmed import Videos
from skelpipe.untrimmed_writer import open_videos
from skelpipe.views import VIEWS

__all__ = ["Dataset", "Reader"]


class Dataset:
    """A dataset folder with a card. Opening reads the card only; tables and shards are read when asked for.

    Rows of a side are numbered in shard order, from 0; ids, labels and readers all use that order.
    """

    def __init__(self, path: Path, card: Mapping[str, Any]) -> None:
        self.path = path
        self.card = card
        self.digest: str = card["digest"]
        self.name: str = card["name"]
        self.split_name: str = card["split"]
        self.profile: str = card["profile"]["name"]
        channels, frames, joints, bodies = card["shape"]
        self.shape: tuple[int, int, int, int] = (channels, frames, joints, bodies)
        self.frames: int = frames
        self.classes: tuple[str, ...] = tuple(card["classes"])
        self.views: tuple[str, ...] = tuple(view for view in VIEWS if view in card["views"])
        self._samples = cache(self._read_samples)

    @classmethod
    def open(cls, path: str | Path) -> "Dataset":
        """Open the dataset in a folder; DatasetError where there is none or its card is damaged."""
        folder = local_folder(path)
        return cls(folder, read_card(folder))

    @cached_property
    def layout(self) -> Layout:
        return Layout.from_plain(self.card["layout"])

    def shards(self, split: str) -> list[Mapping[str, Any]]:
        """Return the card's entries of a side's shards: name, samples, and bytes and hashes a view."""
        if split not in SIDES:
            raise UsageError(f"there is no side {split!r}; there are: {', '.join(SIDES)}")
        shards: list[Mapping[str, Any]] = self.card["splits"][split]["shards"]
        return shards

    def shard_sizes(self, split: str) -> np.ndarray:
        """Return the number of samples in each shard, int64 [S]."""
        return np.array([shard["samples"] for shard in self.shards(split)], np.int64)

    def count(self, split: str) -> int:
        return int(self.shard_sizes(split).sum())

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a side, int64 [N]."""
        return self._samples(split)[1]

    def ids(self, split: str) -> list[str]:
        """Return the ids of a side's samples."""
        return self._samples(split)[0]

    def geometry(self, view: str) -> Geometry:
        """Return where things lie in this view's shards; DatasetError where the card contradicts itself."""
        if view not in self.views:
            raise UsageError(f"{self.path}: has no view {view!r}; it has: {', '.join(self.views)}")
        geometry = Geometry(view, self.shape, self.card["dtype"])
        said = self.card["views"][view]
        if geometry.stride != said["stride"] or geometry.data_offset != said["data_offset"]:
            raise DatasetError(f"{self.path}: the card's stride of view {view} does not fit its shape")
        return geometry

    def reader(self, split: str, view: str) -> "Reader":
        """Return the memory-mapped rows of one side and view."""
        return Reader(self, split, view)

    def videos(self, split: str) -> Videos:
        """Return the untrimmed videos of one side with their frames' labels, for segmentation.

        Raises DatasetError where the dataset was prepared without them.
        """
        if "untrimmed" not in self.card:
            raise DatasetError(f"{self.path}: holds no untrimmed videos: prepare it with --untrimmed")
        return open_videos(self.path, self.card["untrimmed"][split], split, *self.shape[2:])

    def anchor(self, view: str) -> np.ndarray:
        """Return the mean training clip of a view, float32 [C,T,V,M]; DatasetError where there is none."""
        if reason := self.card["anchors"].get("absent"):
            raise DatasetError(f"{self.path}: there is no anchor: {reason}")
        path = self.path / "anchors" / f"{view}.npy"
        try:
            anchor: np.ndarray = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: cannot be read: {error}") from None
        if anchor.shape != self.shape:
            raise DatasetError(f"{path}: shape {anchor.shape}, the card says {self.shape}")
        return anchor

    def _read_samples(self, split: str) -> tuple[list[str], np.ndarray]:
        starts = {}
        count = 0
        for shard in self.shards(split):
            starts[shard["name"]] = count
            count += shard["samples"]
        columns = ["id", "label", "split", "shard", "row"]
        table = read_samples(self.path, self.card).select(columns).to_pydict()
        ids, labels = [""] * count, np.full(count, -1, np.int64)
        for id_, label, side, shard, row in zip(*(table[column] for column in columns), strict=True):
            if side == split and shard is not None:
                at = starts[shard] + row
                ids[at], labels[at] = id_, label
        if (labels < 0).any():
            raise DatasetError(f"{self.path / SAMPLES}: lists fewer {split} samples than the card")
        return ids, labels


class Reader:
    """All clips of one side and view as rows of memory-mapped shards or HDF5 chunks; nothing is decoded."""

    def __init__(self, dataset: Dataset, split: str, view: str) -> None:
        from skelpipe.gather import Pieces  # compiled code, which those who only look at a card need not load

        self.shape = dataset.shape
        geometry = dataset.geometry(view)
        self._dtype = np.dtype(geometry.dtype)
        pieces = map_side(dataset.path, dataset.card, split, geometry, dataset.ids(split))
        self._pieces = Pieces(pieces, self._dtype)

    def __len__(self) -> int:
        return len(self._pieces)

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy the rows (int64 [n], any order) into `out`, float32 [n,C,T,V,M], made where not given."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows go from 0 to {len(self) - 1}")
        if out is None:
            out = np.empty((len(rows), *self.shape), np.float32)
        flat = out.reshape(len(rows), math.prod(self.shape))
        stored = flat if self._dtype == flat.dtype else np.empty(flat.shape, self._dtype)
        self._pieces.copy(rows, stored)
        if stored is not flat:
            _widen(stored, flat)
        return out


def _widen(half: np.ndarray, out: np.ndarray) -> None:
    """Write float16 numbers as float32, five times as fast as numpy does."""
    import torch

    torch.from_numpy(out).copy_(torch.from_numpy(half))
