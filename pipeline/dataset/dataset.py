"""A prepared dataset, opened for reading: its card, its sample table, and its clips as arrays."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial
from os import PathLike
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from skelpipe.dataset.anchor_file import most_anchor_bytes, read_anchor
from skelpipe.dataset.card import SAMPLES, parse_samples, read_card, read_table, why_no_anchors
from skelpipe.dataset.containers import map_subset
from skelpipe.dataset.first_use import FirstUse, checks_shards
from skelpipe.dataset.table_once import ComingIds, TableOnce
from skelpipe.dataset.tar_shard import Geometry
from skelpipe.dataset.untrimmed import Videos, open_videos
from skelpipe.errors import DatasetError, SkelpipeError, UsageError
from skelpipe.front.arguments import given, require_rows, row_numbers, whole_number
from skelpipe.front.descriptions import counted, described_safely, shape_text, short_digest
from skelpipe.manifest import SUBSETS
from skelpipe.mapped_files import map_file
from skelpipe.skeleton import Layout
from skelpipe.storage import open_filesystem, url_key
from skelpipe.storage.filesystem import Filesystem, LocalFilesystem
from skelpipe.views import VIEWS

if TYPE_CHECKING:
    import pyarrow as pa
    from webdataset.compat import FluidWrapper

    from skelpipe.dataset.gather import Pieces
    from skelpipe.dataset.mapped_clips import MappedClips
    from skelpipe.dataset.remote_files import RemoteFiles
    from skelpipe.dataset.remote_rows import RemoteRows, RemoteShards
    from skelpipe.dataset.samples import Samples
    from skelpipe.dataset.table_rows import TableRows

__all__ = ["Dataset", "Reader"]

NO_CARD: Mapping[str, Any] = {}


class Dataset:
    """A prepared dataset, local or remote. Opening it reads only the card; the rest is read when it is needed.

    Rows of a subset are numbered from 0 in shard order; ids, labels and readers all use this order. `filesystem`
    holds the files. `path`, used in messages, is the folder or, for a remote dataset, the filesystem.
    """

    first_use: "FirstUse | None" = None  # fetched files are hashed as they arrive
    is_prepared = True  # there is a card; `skelpipe.foreign` has none

    def __init__(
        self,
        path: "Path | Filesystem",
        card: Mapping[str, Any] = NO_CARD,
        remote: "RemoteFiles | None" = None,
        check_shards: bool | None = None,
    ) -> None:
        """Use `Dataset.open`."""
        if card is NO_CARD:
            raise UsageError(f"Dataset.open({str(path)!r}) opens a dataset; Dataset() alone does not")
        self.path, self.card, self.remote = path, card, remote
        self.filesystem: Filesystem = LocalFilesystem(path) if isinstance(path, Path) else path
        self.digest: str = card["digest"]
        self.name: str = card["name"]
        self.split: str = card["split"]
        self.profile: str = card["profile"]["name"]
        channels, frames, joints, bodies = card["shape"]
        self.shape: tuple[int, int, int, int] = (channels, frames, joints, bodies)
        self.frames: int = frames
        self.channels: tuple[str, ...] = tuple(card.get("channels", ("x", "y", "z")))
        self.classes: tuple[str, ...] = tuple(card["classes"])
        self.views: tuple[str, ...] = tuple(view for view in VIEWS if view in card["views"])
        self._samples = cache(self._read_samples)
        self._table = TableOnce(self._read_table)
        self._texts = cache(lambda subset: list(self._samples(subset)[0]))
        self._check_shards = check_shards
        if remote is None and isinstance(path, Path) and checks_shards(check_shards):
            self.first_use = FirstUse(path, card)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        cache: str | Path | None = None,
        cache_size: int | None = None,
        check_shards: bool | None = None,
    ) -> "Dataset":
        """Open the dataset in a folder or at a URL; DatasetError where there is none or its card is damaged.

        Files of a remote dataset are fetched whole and verified: into the folder `cache`, shared by all processes
        of a machine and at most `cache_size` bytes large, or into temporary files of this process, at most
        `cache_size` bytes at a time. A cached card is used for a day without asking the server. Raises
        SkelpipeError where the server or the cache cannot be read.

        Shards of a local dataset are hashed in the background when this machine first uses them
        (`skelpipe.dataset.first_use`). Where one differs from the card, reading clips raises DatasetError.
        `check_shards` turns this on or off; None is `$SKELPIPE_CHECK_SHARDS`, yes or no, else yes.
        """
        if isinstance(path, Dataset):
            raise UsageError(f"{path.path}: is open already: use the dataset itself")
        if not isinstance(path, str | PathLike):
            raise UsageError(f"a dataset is opened by the path of its folder or its URL, not by {given(path)}")
        if cache is not None and not isinstance(cache, str | PathLike):
            raise UsageError(f"cache is a folder that keeps files of a remote dataset, not {given(cache)}")
        if cache_size is not None:
            cache_size = whole_number(cache_size, "cache_size, in bytes,")
        filesystem = open_filesystem(path)
        if filesystem.is_local:
            return cls(filesystem.local_path, read_card(filesystem.local_path), check_shards=check_shards)
        from skelpipe.dataset.remote_files import open_remote

        files = open_remote(filesystem, url_key(path), cache, cache_size)
        return cls(filesystem, files.card, files)

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset, (self.path, self.card, self.remote, self._check_shards)

    @described_safely
    def __repr__(self) -> str:
        clips = ", ".join(f"{subset} {self.count(subset):,}" for subset in SUBSETS)
        classes = counted(len(self.classes), "class") if self.labelled else "no labels"
        return (
            f"<{type(self).__name__} {self.name}, split {self.split}: {clips} clips {shape_text(self.shape)} "
            f"of {self.layout.name}, {classes}, views {', '.join(self.views)}, profile {self.profile}, "
            f"digest {short_digest(self.digest)}, at {self.path}>"
        )

    @cached_property
    def layout(self) -> Layout:
        return Layout.from_plain(self.card["layout"])

    def shards(self, subset: str) -> list[Mapping[str, Any]]:
        """Return the card's entry of each shard of a subset: name, samples, and size and hashes per view."""
        _require_subset(subset)
        shards: list[Mapping[str, Any]] = self.card["splits"][subset]["shards"]
        return shards

    def shard_sizes(self, subset: str) -> np.ndarray:
        """Return the number of samples in each shard, int64 [S]."""
        return np.array([shard["samples"] for shard in self.shards(subset)], np.int64)

    def count(self, subset: str) -> int:
        return int(self.shard_sizes(subset).sum())

    def labels(self, subset: str) -> np.ndarray:
        """Return the labels of a subset, int64 [N]; DatasetError where the dataset was prepared without labels."""
        if not self.labelled:
            raise DatasetError(
                f"{self.path}: has no labels, which this needs; pre-training and embed work without them"
            )
        return self.stored_labels(subset)

    @property
    def labelled(self) -> bool:
        return bool(self.classes)

    def stored_labels(self, subset: str) -> np.ndarray:
        """Return the labels of a subset as its files hold them, int64 [N]: -1 throughout in a dataset without."""
        labels = self._samples(subset)[1]
        self._table.require()
        return labels

    def require_rows(self) -> None:
        """Wait until the sample table is known to be that of the digest; DatasetError where it is not.

        Whoever takes ids or labels, or reads a clip, waits here (see `skelpipe.dataset.table_rows`).
        """
        self._table.rows().require()

    def ids(self, subset: str) -> list[str]:
        """Return the ids of a subset's samples."""
        return self._texts(subset)

    def geometry(self, view: str) -> Geometry:
        """Return the byte layout of a view's shards; DatasetError where the card contradicts itself."""
        self._require_view(view)
        geometry = Geometry(view, self.shape, self.card["dtype"])
        entry = self.card["views"][view]
        if geometry.stride != entry["stride"] or geometry.data_offset != entry["data_offset"]:
            raise DatasetError(f"{self.path}: the card's stride of view {view} does not match its shape")
        return geometry

    def finish_checks(self) -> None:
        """Wait until the shards in use are hashed; DatasetError where one differs from the card."""
        if self.first_use is not None:
            self.first_use.finish()

    def reader(self, subset: str, view: str) -> "Reader":
        """Return a reader of the clips of one subset and view."""
        return Reader(self, subset, view)

    def samples(self, subset: str, view: str = "joint") -> "Samples":
        """Return the clips of a subset and view as a map-style torch dataset (see `skelpipe.dataset.samples`)."""
        from skelpipe.dataset.samples import Samples  # torch, not needed to read a card

        return Samples(self, subset, view)

    def webdataset(
        self,
        subset: str,
        view: str,
        *,
        shuffle: int = 0,
        seed: int = 0,
        epoch: int = 0,
        shards: Sequence[int] | None = None,
    ) -> "FluidWrapper":
        """Return the samples of one subset and view as a pipeline of webdataset, the library.

        A sample is a dict: `__key__` and `__url__` as webdataset has them, `id`, `index` (the row in the subset),
        `cls` (the label), and `VIEW.npy` (the clip, float32 [C,T,V,M], equal to the reader's). Shards are divided
        among nodes and then among DataLoader workers, so that together they have every sample once; with fewer
        shards than workers some have none. `shuffle` is the number of samples in a shuffle buffer, and 0 keeps row
        order; with it the shards are permuted too. Both orders are functions of (seed, epoch). With `shards`, only
        these are read, and not divided.

        The pipeline takes further stages, such as `.to_tuple("joint.npy", "cls").batched(64)`, and can be
        pickled. Raises DatasetError where the dataset has no shards or one differs from the card.
        """
        from skelpipe.dataset.web_pipeline import WebShard, web_pipeline

        if "shards" not in self.card["formats"]:
            raise DatasetError(
                f"{self.path}: holds its clips in HDF5 files only, and webdataset reads tar shards: prepare it "
                f"with --format shards or both"
            )
        geometry, ids, found, first = self.geometry(view), self.ids(subset), [], 0
        for entry in self.shards(subset):
            name, end = f"{subset}/{view}/{entry['name']}.tar", first + entry["samples"]
            mapped = (
                partial(map_file, self.filesystem.local_path / name)
                if self.remote is None
                else partial(self.remote.map, name)
            )
            found.append(WebShard(f"{self.path}/{name}", ids[first:end], first, mapped))
            first = end
        chosen = found if shards is None else [found[number] for number in shards]
        return web_pipeline(chosen, geometry, shuffle=shuffle, seed=seed, epoch=epoch, divided=shards is None)

    def videos(self, subset: str) -> Videos:
        """Return the untrimmed videos of one subset with a label per frame, for segmentation.

        Raises DatasetError where the dataset was prepared without them.
        """
        _require_subset(subset)
        if "untrimmed" not in self.card:
            raise DatasetError(f"{self.path}: holds no untrimmed videos: prepare it with --untrimmed")
        facts, remote = self.card["untrimmed"][subset], self.remote
        if remote is None:
            return open_videos(self.filesystem.local_path, facts, subset, *self.shape[2:], channels=self.shape[0])
        map_file = partial(_map_remote, remote)
        return open_videos(PurePath(), facts, subset, *self.shape[2:], map_file, channels=self.shape[0])

    def anchor(self, view: str) -> np.ndarray:
        """Return the mean training clip of a view, float32 [C,T,V,M]; DatasetError where there is none."""
        self._require_view(view)
        if reason := why_no_anchors(self.card):
            raise DatasetError(f"{self.path}: there is no anchor: {reason}")
        name = f"anchors/{view}.npy"
        try:
            most = most_anchor_bytes(self.shape)
            content = self.filesystem.read(name, most) if self.remote is None else self.remote.read(name)
        except SkelpipeError as error:
            raise DatasetError(f"{self.path}/{name}: cannot be read: {error}") from None
        if hashlib.sha256(content).hexdigest() != self.card["anchors"].get(view, {}).get("sha256"):
            raise DatasetError(
                f"{self.path}/{name}: damaged, or of another dataset: its sha256 differs from the card"
            )
        return read_anchor(content, self.shape, f"{self.path}/{name}")

    def table(self) -> "pa.Table":
        """Return the sample table: one row per sample, dropped samples included."""
        if self.remote is None:
            return parse_samples(read_table(self.filesystem.local_path, self.card), self.card, self.path)
        return parse_samples(self.remote.read(SAMPLES), self.card, self.path)

    def _require_view(self, view: str) -> None:
        if view not in self.views:
            raise UsageError(f"{self.path}: has no view {view!r}; it has: {', '.join(self.views)}")

    def _read_table(self) -> "TableRows":
        from skelpipe.dataset.table_rows import TableRows

        if self.remote is None:
            return TableRows(read_table(self.filesystem.local_path, self.card), self.card, self.path)
        return TableRows(self.remote.read(SAMPLES), self.card, self.path)

    def _read_samples(self, subset: str) -> tuple[Sequence[str], np.ndarray]:
        _require_subset(subset)
        return self._table.rows().subset(subset)


class Reader:
    """All clips of one subset and view, as rows of memory-mapped shards or HDF5 files; nothing is decoded.

    Shards of a remote dataset are fetched when they are needed (see `skelpipe.dataset.remote_rows`).
    """

    def __init__(self, dataset: Dataset, subset: str, view: str) -> None:
        self.shape, self._source = dataset.shape, (dataset, subset, view)
        geometry = dataset.geometry(view)
        self._dtype = np.dtype(geometry.dtype)
        rows, self._unchecked = _rows(dataset, subset, geometry)
        self._pieces, self._first_use = rows, dataset.first_use
        if self._first_use is not None:
            self._first_use.expect(_clip_files(dataset, subset, view))
        self.remote: RemoteShards | None = None if dataset.remote is None else cast("RemoteRows", rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the same files."""
        return _opened, self._source

    def __len__(self) -> int:
        return len(self._pieces)

    def mapped(self, rows: np.ndarray) -> "MappedClips | None":
        """Return these rows (int64 [n], any order) without a copy; None unless they are local and float32."""
        import torch

        from skelpipe.dataset.mapped_clips import MappedClips

        self._require()
        found = None if self.remote is not None else cast("Pieces", self._pieces).mapped(row_numbers(rows))
        return None if found is None else MappedClips(*found, torch.Size((len(rows), *self.shape)))

    def confirm(self) -> None:
        """Raise DatasetError if a local file was overwritten or removed since it was opened, or is damaged."""
        self._require()
        if self.remote is None:
            cast("Pieces", self._pieces).confirm()

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy these rows (int64 [n], any order) into `out`, float32 [n,C,T,V,M], a new array if not given."""
        self._require()
        rows = row_numbers(rows)
        if out is None:
            out = np.empty((len(rows), *self.shape), np.float32)
        flat = out.reshape(len(rows), math.prod(self.shape))
        copied = flat if self._dtype == flat.dtype else np.empty(flat.shape, self._dtype)
        self._pieces.copy(rows, copied)
        if copied is not flat:
            _widen(copied, flat)
        return out

    def _require(self) -> None:
        if self._first_use is not None:
            self._first_use.require()
        if self._unchecked is not None:
            self._unchecked()
            self._unchecked = None

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as int64 [n], for readers that look them up before they are read."""
        rows = row_numbers(rows)
        require_rows(rows, len(self))
        return rows


def _clip_files(dataset: Dataset, subset: str, view: str) -> list[str]:
    """Return the names of the files that hold the clips of one subset and view."""
    if "shards" in dataset.card["formats"]:
        return [f"{subset}/{view}/{shard['name']}.tar" for shard in dataset.shards(subset)]
    return [dataset.card["hdf5"][subset]["file"]] if subset in dataset.card.get("hdf5", {}) else []


def _require_subset(subset: str) -> None:
    if subset not in SUBSETS:
        raise UsageError(f"there is no subset {subset!r}; there are: {', '.join(SUBSETS)}")


def _opened(dataset: Dataset, subset: str, view: str) -> Reader:
    return dataset.reader(subset, view)


def _rows(
    dataset: Dataset, subset: str, geometry: Geometry
) -> "tuple[Pieces | RemoteRows, Callable[[], None] | None]":
    """Return the clips as rows, and what is to be called before the first is read, if anything.

    That waits for the sample table where it is remote or long; its ids are those that the shards have to hold.
    """
    if dataset.remote is not None:
        from skelpipe.dataset.remote_rows import remote_subset

        dataset._table.begin()
        coming = ComingIds(lambda: dataset._samples(subset)[0], dataset.count(subset))
        return remote_subset(dataset.remote, subset, geometry, coming), dataset.require_rows
    from skelpipe.dataset.gather import Pieces  # compiled code, not needed to read a card

    ids, _ = dataset._samples(subset)
    pending = dataset._table.is_pending
    place = (dataset.filesystem.local_path, dataset.card, subset, geometry)
    pending = pending and "shards" in dataset.card["formats"]
    pieces = map_subset(*place, ids, named=not pending)

    def compare() -> None:
        map_subset(*place, ids)

    return Pieces(pieces, np.dtype(geometry.dtype)), compare if pending else None


def _map_remote(remote: "RemoteFiles", path: PurePath) -> np.ndarray:
    return remote.map(path.as_posix())


def _widen(half: np.ndarray, out: np.ndarray) -> None:
    """Convert float16 to float32, five times as fast as numpy does."""
    import torch

    torch.from_numpy(out).copy_(torch.from_numpy(half))
