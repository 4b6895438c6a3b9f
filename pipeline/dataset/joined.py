"""Several datasets as one, to be trained on together: local or remote, each with a weight."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from skelpipe.dataset.dataset import Dataset, Reader
from skelpipe.errors import DatasetError, UsageError
from skelpipe.front.arguments import given

if TYPE_CHECKING:
    from skelpipe.dataset.gather import Pieces
    from skelpipe.dataset.mapped_clips import MappedClips
    from skelpipe.dataset.remote_rows import RemoteShards

__all__ = ["JoinedDataset", "parts_of", "shared_ids"]


class JoinedDataset(Dataset):
    """The clips of several datasets, one after the other, for streams and loaders.

    A subset has the rows of that subset of all `parts`, in their order. A weight w says how often a clip of that
    part comes in an epoch of a shuffled stream on average, see `skelpipe.loader.sampling`; with 1 for all, the
    default, an epoch has every clip once. Without shuffling weights play no part.

    Where the parts have the same classes, labels stay as they are. Otherwise the classes of different parts are
    different ones: those of the second part are numbered after those of the first, and so on, and a class is
    called `DATASET: CLASS`. The digest is that of all parts, joined by `+`.
    """

    def __init__(self, parts: Sequence[Dataset], weights: Sequence[float] | None = None) -> None:
        """Join `parts`, with one weight for each.

        Raises UsageError where they differ in layout, frames, bodies, channels or preprocessing profile, for the
        same dataset twice, and for weights that do not fit.
        """
        _check(parts)
        self.__dict__.update(parts[0].__dict__)  # all that is the same in all parts stays
        self.parts = tuple(parts)
        self.weights = _checked_weights(parts, weights)
        self.path = " + ".join(str(part.path) for part in parts)  # type: ignore[assignment]
        self.remote = self.first_use = None
        self.name = "+".join(part.name for part in parts)
        self.split = "+".join(part.split for part in parts)
        self.digest = "+".join(part.digest for part in parts)
        self.views = tuple(view for view in parts[0].views if all(view in part.views for part in parts))
        self.part_names = _names(parts)
        self._first_class = np.zeros(len(parts), np.int64)
        if any(part.classes != parts[0].classes for part in parts):
            counts = [len(part.classes) for part in parts]
            self._first_class = np.cumsum([0, *counts[:-1]])
            named = zip(self.part_names, parts, strict=True)
            self.classes = tuple(f"{name}: {each}" for name, part in named for each in part.classes)

    def __reduce__(self) -> tuple[Any, ...]:
        return JoinedDataset, (self.parts, self.weights)

    def part_counts(self, subset: str) -> list[int]:
        """Return the number of clips of each part."""
        return [part.count(subset) for part in self.parts]

    def shards(self, subset: str) -> list[Any]:
        return [shard for part in self.parts for shard in part.shards(subset)]

    def shard_sizes(self, subset: str) -> np.ndarray:
        return np.concatenate([part.shard_sizes(subset) for part in self.parts])

    @property
    def labelled(self) -> bool:
        return all(part.labelled for part in self.parts)

    def stored_labels(self, subset: str) -> np.ndarray:
        own = [part.stored_labels(subset) for part in self.parts]
        return np.concatenate(
            [np.where(each < 0, each, each + first) for each, first in zip(own, self._first_class, strict=True)]
        )

    def ids(self, subset: str) -> list[str]:
        return [id_ for part in self.parts for id_ in part.ids(subset)]

    def reader(self, subset: str, view: str) -> Reader:
        return _JoinedReader(self, subset, view)

    def finish_checks(self) -> None:
        for part in self.parts:
            part.finish_checks()

    def anchor(self, view: str) -> np.ndarray:
        """Return the mean training clip of all parts, float32 [C,T,V,M]; weights play no part."""
        counts = self.part_counts("train")
        held = [(part, count) for part, count in zip(self.parts, counts, strict=True) if count]
        if not held:
            return self.parts[0].anchor(view)  # which says that there is none
        total = np.zeros(self.shape)
        for part, count in held:
            total += part.anchor(view).astype(np.float64) * count
        return (total / sum(counts)).astype(np.float32)

    def table(self) -> NoReturn:
        """Raise DatasetError: sample tables differ from dataset to dataset."""
        raise DatasetError(f"{self.path}: several datasets have no common sample table: read that of one of them")

    def videos(self, subset: str) -> NoReturn:
        """Raise DatasetError: segmentation reads one dataset."""
        raise DatasetError(f"{self.path}: untrimmed videos are read from one dataset at a time")

    def webdataset(self, *_: Any, **__: Any) -> NoReturn:
        """Raise DatasetError: webdataset reads the shards of one dataset, and mixes such pipelines itself."""
        raise DatasetError(f"{self.path}: webdataset reads one dataset: join pipelines by webdataset's RandomMix")


class _JoinedReader(Reader):
    """The rows of several readers, one after the other."""

    def __init__(self, dataset: JoinedDataset, subset: str, view: str) -> None:
        self.shape, self._source = dataset.shape, (dataset, subset, view)
        self._readers = [part.reader(subset, view) for part in dataset.parts]
        self._starts = np.concatenate([[0], np.cumsum(dataset.part_counts(subset))]).astype(np.int64)
        self._local = _pieces(self._readers)
        shards = [len(part.shard_sizes(subset)) for part in dataset.parts]
        remote = [reader.remote for reader in self._readers]
        self.remote = _RemoteParts(remote, shards) if any(each is not None for each in remote) else None

    def _require(self) -> None:
        for reader in self._readers:
            reader._require()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def mapped(self, rows: np.ndarray) -> "MappedClips | None":
        import torch

        from skelpipe.dataset.mapped_clips import MappedClips

        self._require()
        found = None if self._local is None else self._local.mapped(self._checked(rows))
        return None if found is None else MappedClips(*found, torch.Size((len(rows), *self.shape)))

    def confirm(self) -> None:
        for reader in self._readers:
            reader.confirm()

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        self._require()
        rows = self._checked(rows)
        if out is None:
            out = np.empty((len(rows), *self.shape), np.float32)
        if self._local is not None:
            self._local.copy(rows, out.reshape(len(rows), math.prod(self.shape)))
            return out
        part = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(part).tolist():
            own = np.flatnonzero(part == number)
            here = rows[own] - self._starts[number]
            if len(own) == len(rows):
                return self._readers[number].gather(here, out)
            out[own] = self._readers[number].gather(here)
        return out


class _RemoteParts:
    """The shards of all parts as a stream fetches them ahead; those of local parts need no fetching."""

    def __init__(self, parts: Sequence["RemoteShards | None"], shards: Sequence[int]) -> None:
        starts = np.cumsum([0, *shards]).tolist()
        self._parts = [
            (part, range(start, end))
            for part, start, end in zip(parts, starts[:-1], starts[1:], strict=True)
            if part is not None
        ]
        remote = [part for part, _ in self._parts]
        self.capacity = min(part.capacity for part in remote)  # they may share one cache
        self.largest, self.total = max(part.largest for part in remote), sum(part.total for part in remote)

    @property
    def is_whole(self) -> bool:
        return all(part.is_whole for part, _ in self._parts)

    def expect(self, shards: Sequence[int]) -> None:
        for part, own in self._parts:
            part.expect([shard - own.start for shard in shards if shard in own])


def parts_of(dataset: Dataset) -> tuple[Dataset, ...]:
    """Return the datasets that this one joins, or itself."""
    return dataset.parts if isinstance(dataset, JoinedDataset) else (dataset,)


def shared_ids(dataset: Dataset) -> int:
    """Return how many ids of the test subset are also in the train subset; those of all parts count."""
    return len(set(dataset.ids("train")).intersection(dataset.ids("test")))


def _pieces(readers: Sequence[Reader]) -> "Pieces | None":
    """Return the rows of all readers as one sequence, if all are local, unchanged and float32."""
    from skelpipe.dataset.gather import Pieces  # compiled code, not needed to read a card

    if any(type(reader) is not Reader or reader.remote is not None for reader in readers):
        return None
    pieces = [cast("Pieces", reader._pieces) for reader in readers]
    if any(reader._dtype != np.float32 for reader in readers):
        return None
    return Pieces.joined(pieces)


def _check(parts: Sequence[Dataset]) -> None:
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise UsageError(f"several datasets are joined: a list of them, not {given(parts)}")
    if not parts:
        raise UsageError("there is no dataset to train on")
    for part in parts:
        if not isinstance(part, Dataset):
            raise UsageError(f"datasets are joined, Dataset.open(...) of each, not {given(part)}")
    first = parts[0]
    for number, part in enumerate(parts):
        for other in parts[:number]:
            if other.digest == part.digest:
                raise UsageError(f"{other.path} and {part.path} hold the same dataset: name it once")
        if found := _differences(first, part):
            raise UsageError(f"{first.path} and {part.path} cannot be trained on together: {'; '.join(found)}")


def _differences(first: Dataset, second: Dataset) -> list[str]:
    both = [
        {
            "layout": each.layout.name,
            "frames": each.frames,
            "bodies": each.shape[3],
            "channels": ", ".join(each.channels),
            "preprocessing profile": each.profile,
        }
        for each in (first, second)
    ]
    found = [f"{name} {was} and {both[1][name]}" for name, was in both[0].items() if was != both[1][name]]
    if not found and first.layout != second.layout:
        found.append(f"both layouts are called {first.layout.name}, but they differ")
    return found


def _checked_weights(parts: Sequence[Dataset], weights: Sequence[float] | None) -> tuple[float, ...]:
    if weights is None:
        return (1.0,) * len(parts)
    if len(weights) != len(parts):
        raise UsageError(f"{len(weights)} weights for {len(parts)} datasets: give one for each, in their order")
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise UsageError(f"the weight of a dataset is {weight:g}: it must be above 0")
    return tuple(map(float, weights))


def _names(parts: Sequence[Dataset]) -> tuple[str, ...]:
    """Return name and split of each part, made unique: `ntu60-xsub`, `ntu60-xsub-2`."""
    plain = [f"{part.name}-{part.split}" for part in parts]
    earlier = [plain[:number].count(name) for number, name in enumerate(plain)]
    return tuple(name if not times else f"{name}-{times + 1}" for name, times in zip(plain, earlier, strict=True))
