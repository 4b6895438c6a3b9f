"""Shards that others wrote, seen as a dataset: one pass counts, checks and hashes them, then epochs read them.

Nothing is written and nothing is preprocessed but the number of frames: positions stay as they are stored.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from webdataset import shardlists
from webdataset.compat import FluidWrapper
from webdataset.filters import shuffle as shuffled

from skelpipe.dataset import Dataset
from skelpipe.dataset.web_rows import WebRows, shards_at_once
from skelpipe.errors import DatasetError, RawError, UsageError
from skelpipe.files import canonical_json
from skelpipe.manifest import SUBSETS
from skelpipe.raw.axes import arranged
from skelpipe.raw.form import Form
from skelpipe.raw.web_shards import WebFields, WebSample, expand_shards, web_samples
from skelpipe.skeleton import Layout
from skelpipe.storage import Filesystem, open_file

__all__ = ["ForeignShards", "ShardForm", "resized"]

UNLABELLED = -1


@dataclass(frozen=True)
class ShardForm:
    """What the samples are: where array and label are, the order of axes, the numbers per joint, the layout.

    Clips get `frames` frames, and `bodies` bodies (None: as many as any sample has).
    """

    layout: Layout
    frames: int
    fields: WebFields = field(default_factory=WebFields)
    axes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    bodies: int | None = None

    def clip(self, sample: WebSample, at: str, bodies: int) -> np.ndarray:
        """Return a sample as a clip, float32 [C,T,V,bodies]; RawError where it is none or not finite."""
        values = self.arranged(sample, at, bodies).astype(np.float32)
        if not np.isfinite(values).all():
            frame, body, joint, _ = np.argwhere(~np.isfinite(values))[0]
            raise RawError(
                f"{at}: frame {frame + 1}, body {body + 1}, joint {joint + 1} is not finite: import the shards"
                " with skelpipe import, which has policies for joints that were not found"
            )
        if values.shape[1] > bodies:
            raise RawError(f"{at}: {values.shape[1]} bodies, {bodies} are expected")
        given = self.channels or ("x", "y", "z")[: values.shape[3]]
        stored = ("x", "y", "z", "score") if "score" in given else ("x", "y", "z")
        clip = np.zeros((len(stored), len(values), len(self.layout), bodies), np.float32)
        for number, channel in enumerate(given):
            if channel == "unused":
                continue
            clip[stored.index(channel), ..., : values.shape[1]] = values[..., number].transpose(0, 2, 1)
        return resized(clip, self.frames)

    def arranged(self, sample: WebSample, at: str, bodies: int = 2) -> np.ndarray:
        """Return a sample's array as [T,M,V,C]; RawError where its axes are neither declared nor proven."""
        try:
            return arranged(sample.array, Form(self.layout, bodies, self.channels, self.axes), at)
        except RawError as error:
            raise RawError(f"{error} (for shards: --axes T,V,C, --channels x,y,score)") from None

    def plain(self) -> dict[str, Any]:
        """Return what decides the clips, for the digest."""
        fields = [self.fields.array, self.fields.label]
        return {"layout": self.layout.to_plain(), "frames": self.frames, "fields": fields} | {
            "axes": list(self.axes),
            "channels": list(self.channels),
            "bodies": self.bodies,
        }


@dataclass(frozen=True)
class _Shard:
    """One shard, as the first pass found it: its address without secrets, its hash, the rows of its samples."""

    filesystem: Filesystem
    file: str
    name: str
    sha256: str = ""
    keys: tuple[str, ...] = ()
    labels: tuple[int | str | None, ...] = ()
    bodies: int = 1
    channels: int = 3
    first: int = 0

    def samples(self, form: ShardForm) -> Iterator[WebSample]:
        """Yield all samples; DatasetError at the end if the shard is another one than in the first pass."""
        opened = _Hashed(self.filesystem, self.file)
        yield from web_samples(io.BufferedReader(opened), self.name, form.fields)
        if self.sha256 and opened.digest() != self.sha256:
            raise DatasetError(f"{self.name}: was replaced since it was first read: start a new run on it")


class ForeignShards(Dataset):
    """A `Dataset` of one view, joint, over tars at any address. Its digest covers all their bytes and the form.

    `patterns` maps train, and if there is one test, to brace patterns. Labels that are names are numbered in the
    order of the names; a sample without a label has -1.
    """

    is_prepared = False

    def __init__(self, patterns: Mapping[str, Sequence[str]], form: ShardForm) -> None:
        """Read all shards once, to count and check them. Raises RawError that names the first bad member."""
        self.form = form
        found = {subset: _indexed(patterns.get(subset, ()), form) for subset in SUBSETS}
        shards = [shard for subset in SUBSETS for shard in found[subset]]
        bodies = form.bodies or max(shard.bodies for shard in shards)
        for shard in shards:
            if None in shard.labels and set(shard.labels) != {None}:
                key = shard.keys[shard.labels.index(None)]
                raise RawError(
                    f"{shard.name}: {key}: has no label, others have: give --label none to use no labels"
                )
        written = {label for shard in shards for label in shard.labels if label is not None}
        classes = _classes(written)
        numbers = {label: n for n, label in enumerate(classes)}
        labels = {
            subset: [
                UNLABELLED if label is None else numbers[label]
                for shard in found[subset]
                for label in shard.labels
            ]
            for subset in SUBSETS
        }
        self._found, self._numbers = found, labels
        channels = ["x", "y", "z", "score"][: max(3, *(shard.channels for shard in shards))]
        super().__init__(
            Path(shards[0].name).parent if shards[0].filesystem.is_local else shards[0].filesystem,
            {
                "digest": hashlib.sha256(
                    canonical_json({"form": form.plain(), "shards": [(s.file, s.sha256) for s in shards]})
                ).hexdigest(),
                "name": _name(shards[0].file),
                "split": "shards",
                "profile": {"name": "stored"},
                "shape": [len(channels), form.frames, len(form.layout), bodies],
                "channels": channels,
                "dtype": "float32",
                "layout": form.layout.to_plain(),
                "classes": [str(label) for label in classes],
                "views": {"joint": {}},
                "splits": {
                    subset: {"shards": [{"name": s.name, "samples": len(s.keys)} for s in found[subset]]}
                    for subset in SUBSETS
                },
                "anchors": {"absent": "these shards were not written by skelpipe: import them"},
                "formats": ["shards"],
                "options": {},
                "published": {},
                "units": "",
            },
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self.__dict__.copy() | {"_samples": None},)

    def _read_samples(self, subset: str) -> tuple[list[str], np.ndarray]:
        keys = [key for shard in self._found[subset] for key in shard.keys]
        return keys, np.array(self._numbers[subset], np.int64)

    def reader(self, subset: str, view: str) -> WebRows:  # type: ignore[override]  # equal where it is used
        """Return the clips of one subset as rows."""
        samples = partial(self._samples_of, subset, view)
        sizes = self.shard_sizes(subset)
        return WebRows(samples, sizes, self.shape, view, shards_at_once(sizes, self.shape))

    def _samples_of(self, subset: str, view: str, shards: Sequence[int]) -> Iterable[dict[str, Any]]:
        return self.webdataset(subset, view, shards=shards)

    def webdataset(
        self,
        subset: str,
        view: str,
        *,
        shuffle: int = 0,
        seed: int = 0,
        epoch: int = 0,
        shards: Sequence[int] | None = None,
    ) -> FluidWrapper:
        """Return the samples as `Dataset.webdataset` does; the only view is joint."""
        if view not in self.views:
            raise UsageError(f"{self.path}: has no view {view!r}: bone and motion are derived of the joints")
        self.shards(subset)
        labels = np.array(self._numbers[subset], np.int64)
        chosen = tuple(self._found[subset] if shards is None else (self._found[subset][n] for n in shards))
        pipeline, draw = FluidWrapper(_Listed(chosen)), (seed << 32) + epoch
        if shuffle:
            pipeline.append(shuffled(len(labels), initial=len(labels), seed=draw))
        if shards is None:
            pipeline.append(shardlists.split_by_node)
            pipeline.append(shardlists.split_by_worker)
        pipeline.append(_Clips(self.form, self.shape[3], labels))
        if shuffle:
            pipeline.append(shuffled(shuffle, initial=shuffle, seed=draw))
        return pipeline


@dataclass(frozen=True)
class _Listed:
    shards: tuple[_Shard, ...]

    def __call__(self) -> Iterator[dict[str, Any]]:
        for shard in self.shards:
            yield {"url": shard.name, "shard": shard}


@dataclass(frozen=True)
class _Clips:
    form: ShardForm
    bodies: int
    labels: np.ndarray

    def __call__(self, shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for source in shards:
            shard: _Shard = source["shard"]
            for number, sample in enumerate(shard.samples(self.form)):
                at = f"{shard.name}: {sample.key}"
                if number >= len(shard.keys) or sample.key != shard.keys[number]:
                    raise DatasetError(f"{at}: is new: the shard was replaced; start a new run on it")
                yield {
                    "__key__": sample.key,
                    "__url__": shard.name,
                    "id": sample.key,
                    "index": shard.first + number,
                    "cls": int(self.labels[shard.first + number]),
                    "joint.npy": self.form.clip(sample, at, self.bodies),
                }


def resized(clip: np.ndarray, frames: int) -> np.ndarray:
    """Return a clip [C,T,V,M] with so many frames, linear in time: frame i is at (i + 1/2) T / frames - 1/2.

    These are the positions of `torch.nn.functional.interpolate`, as released code has them; equal numbers of
    frames change nothing.
    """
    have = clip.shape[1]
    if have == frames:
        return clip
    at = np.clip((np.arange(frames) + 0.5) * have / frames - 0.5, 0, have - 1)
    low = np.floor(at).astype(np.int64)
    share = (at - low).astype(np.float32)[:, None, None]
    return clip[:, low] * (1 - share) + clip[:, np.minimum(low + 1, have - 1)] * share


def _indexed(patterns: Sequence[str], form: ShardForm) -> list[_Shard]:
    """Read every shard of some patterns once."""
    found: list[_Shard] = []
    first = 0
    seen: dict[str, str] = {}
    for address in (name for pattern in patterns for name in expand_shards(pattern)):
        filesystem, file, name = _located(address)
        opened = _Hashed(filesystem, file)
        keys, labels, bodies, channels = [], [], 1, 3
        for sample in web_samples(io.BufferedReader(opened), name, form.fields):
            at = f"{name}: {sample.key}"
            if sample.key in seen:
                raise RawError(
                    f"{at}: the key is also in {seen[sample.key]}: one shard is given twice, or a key is"
                )
            seen[sample.key] = name
            here = form.bodies or form.arranged(sample, at).shape[1]
            channels = max(channels, len(form.clip(sample, at, here)))
            keys.append(sample.key)
            labels.append(sample.label)
            bodies = max(bodies, here)
        if not keys:
            raise RawError(f"{name}: holds no samples")
        found.append(
            _Shard(filesystem, file, name, opened.digest(), tuple(keys), tuple(labels), bodies, channels, first)
        )
        first += len(keys)
    return found


def _classes(written: set[int | str]) -> list[int | str]:
    """Return the labels by number: numbers count from 0 as they are, names are sorted."""
    numbers = [label for label in written if isinstance(label, int)]
    if len(numbers) < len(written):
        return sorted(written, key=str)
    if numbers and min(numbers) < 0:
        raise RawError(f"a label is {min(numbers)}: labels count from 0")
    return list(range(max(numbers, default=-1) + 1))


def _located(address: str) -> tuple[Filesystem, str, str]:
    """Return the filesystem of the folder of an address, the file's name there, and what messages call it."""
    filesystem, file = open_file(address)
    return filesystem, file, address if "://" not in address else f"{filesystem}/{file}"


def _name(file: str) -> str:
    """Return a name of a dataset in a shard's: `ntu-train-000003.tar` is ntu-train."""
    stem = PurePosixPath(file).name.partition(".")[0]
    return stem.rstrip("0123456789").rstrip("-_") or "shards"


class _Hashed(io.RawIOBase):
    """A file that is read from first to last, from any filesystem, and hashed."""

    def __init__(self, filesystem: Filesystem, file: str) -> None:
        self._pieces, self._left, self._hash = filesystem.stream(file), memoryview(b""), hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            piece = next(self._pieces, b"")
            self._hash.update(piece)
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        """Do nothing: `digest` may be asked for after the reader around this file is gone."""

    def digest(self) -> str:
        """Read what is left, and return the sha256 of all bytes."""
        for piece in self._pieces:
            self._hash.update(piece)
        return self._hash.hexdigest()


def _same(state: dict[str, Any]) -> ForeignShards:
    shards = ForeignShards.__new__(ForeignShards)
    shards.__dict__.update(state)
    shards._samples = cache(shards._read_samples)
    return shards
