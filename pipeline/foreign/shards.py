"""Shards that others wrote, seen as a dataset: one pass counts, checks and hashes them, then epochs read them.

Nothing is written and nothing is preprocessed but the number of frames: positions stay as they are stored.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from webdataset import shardlists
from webdataset.compat import FluidWrapper
from webdataset.filters import shuffle as shuffled

from skelpipe.dataset import Dataset
from skelpipe.dataset.web_pipeline import draw_seed
from skelpipe.dataset.web_rows import WebRows, shards_at_once
from skelpipe.errors import DatasetError, RawError, UsageError
from skelpipe.files import canonical_json
from skelpipe.manifest import SUBSETS
from skelpipe.preprocess.scores import third_like_score
from skelpipe.preprocess.stored import resized
from skelpipe.raw.axes import arranged, recorded
from skelpipe.raw.form import Form
from skelpipe.raw.plausible import implausible, longest_track
from skelpipe.raw.recording import Recording
from skelpipe.raw.web_shards import WebFields, WebSample, expand_shards, numbered, web_samples
from skelpipe.skeleton import Layout
from skelpipe.storage import Filesystem, open_file

__all__ = ["ForeignShards", "ShardForm"]

LOOKED_AT = 64  # samples of which it is told whether they look right


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
            raise RawError(
                f"{at}: {values.shape[1]} bodies, {bodies} are expected: say --bodies {values.shape[1]}, or import"
                " the shards with skelpipe import, which chooses bodies"
            )
        given = self.channels or ("x", "y", "z")[: values.shape[3]]
        stored = ("x", "y", "z", "score") if "score" in given else ("x", "y", "z")
        clip = np.zeros((len(stored), len(values), len(self.layout), bodies), np.float32)
        for number, channel in enumerate(given):
            if channel == "unused":
                continue
            clip[stored.index(channel), ..., : values.shape[1]] = values[..., number].transpose(0, 2, 1)
        if len(values) == self.frames:
            return clip
        return resized(clip.swapaxes(0, 1), self.frames).swapaxes(0, 1).astype(np.float32)

    def arranged(self, sample: WebSample, at: str, bodies: int = 2) -> np.ndarray:
        """Return a sample's array as [T,M,V,C]; RawError where its axes are neither declared nor proven."""
        return arranged(sample.array, self._form(bodies), at)

    def recording(self, sample: WebSample, at: str) -> Recording:
        """Return a sample as a recording, which has NaN where a joint was not found."""
        form = self._form(self.bodies or 2)
        return recorded(arranged(sample.array, form, at), form, at)

    def _form(self, bodies: int) -> Form:
        return Form(self.layout, bodies, self.channels, self.axes, by_options=True)

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
    order of the names; a sample without a label has -1. `notes` are lines about what looks wrong.
    """

    is_prepared = False

    def __init__(
        self, patterns: Mapping[str, Sequence[str]], form: ShardForm, *, index: "_Index | None" = None
    ) -> None:
        """Read all shards once, to count and check them. Raises RawError that names the first bad member.

        With the `index` of a dataset of the same shards nothing is read.
        """
        if index is None:
            if not patterns.get("train"):
                raise UsageError("no shards are named to train on: {'train': ['foo-{000..009}.tar']} names ten")
            look = _Look(form)
            index = _Index(
                {subset: _indexed(patterns.get(subset, ()), form, look) for subset in SUBSETS}, look.notes()
            )
        self.form, self._index, found = form, index, index.found
        shards = [shard for subset in SUBSETS for shard in found[subset]]
        bodies = form.bodies or max(shard.bodies for shard in shards)
        for shard in shards:
            if None in shard.labels and set(shard.labels) != {None}:
                key = shard.keys[shard.labels.index(None)]
                raise RawError(
                    f"{shard.name}: {key}: has no label, others have: give --label none to use no labels"
                )
        numbers, names, note = numbered([label for shard in shards for label in shard.labels], shards[0].name)
        classes = names or tuple(map(str, range(max(numbers) + 1)))
        count = sum(len(shard.keys) for shard in found["train"])
        self._found, self._numbers = found, {"train": numbers[:count], "test": numbers[count:]}
        self.notes = (*index.notes, *([note] if note else ()))
        channels = ["x", "y", "z", "score"][: max(3, *(shard.channels for shard in shards))]
        super().__init__(
            Path(shards[0].name).parent if shards[0].filesystem.is_local else shards[0].filesystem,
            {
                "digest": hashlib.sha256(
                    canonical_json(
                        {
                            "form": form.plain(),
                            "shards": {
                                subset: [(shard.file, shard.sha256) for shard in found[subset]]
                                for subset in SUBSETS
                            },
                        }
                    )
                ).hexdigest(),
                "name": _name(shards[0].file),
                "split": "shards",
                "profile": {"name": "stored"},
                "shape": [len(channels), form.frames, len(form.layout), bodies],
                "channels": channels,
                "dtype": "float32",
                "layout": form.layout.to_plain(),
                "classes": list(classes),
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
        return partial(ForeignShards, index=self._index), ({}, self.form)

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
        pipeline, draw = FluidWrapper(_Listed(chosen)), draw_seed(seed, epoch)
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


class _Look:
    """The first samples, to tell what looks wrong about them."""

    def __init__(self, form: ShardForm) -> None:
        self._form, self._like_score, self._tracks = form, 0, list[np.ndarray]()

    def see(self, sample: WebSample, where: str) -> None:
        if len(self._tracks) == LOOKED_AT:
            return
        recording = self._form.recording(sample, where)
        self._tracks.append(longest_track(recording))
        if not self._form.channels and sample.array.size:
            self._like_score += third_like_score(recording, self._form.layout)

    def notes(self) -> tuple[str, ...]:
        said = []
        if 2 * self._like_score > len(self._tracks):
            said.append(
                "the third number of the joints looks like a score, not like z: if it is, say --channels x,y,score"
            )
        elif found := implausible(self._tracks, self._form.layout)[:-1]:  # the last is advice on a manifest
            said.append(
                f"bodies do not look like bodies: {'; '.join(found)}: is the order of the joints that of --layout"
                f" {self._form.layout.name}, and does y grow upwards?"
            )
        return tuple(said)


class _Index(NamedTuple):
    """What the first pass found: the shards of each subset, and notes."""

    found: dict[str, list[_Shard]]
    notes: tuple[str, ...]


def _indexed(patterns: Sequence[str], form: ShardForm, look: _Look) -> list[_Shard]:
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
                    f"{at}: the key is also in {seen[sample.key]}: one shard is given twice, or two samples have"
                    " one key"
                )
            seen[sample.key] = name
            here = form.bodies or form.arranged(sample, at).shape[1]
            channels = max(channels, len(form.clip(sample, at, here)))
            look.see(sample, at)
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
