"""The shards of a dataset as a pipeline of webdataset, the library, to which others append their own stages."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from webdataset import shardlists
from webdataset.compat import FluidWrapper
from webdataset.filters import pipelinefilter
from webdataset.filters import shuffle as shuffled
from webdataset.tariterators import group_by_keys, tar_file_expander

from skelpipe.dataset.tar_shard import Geometry, check_shard
from skelpipe.errors import DatasetError
from skelpipe.mapped_files import reading
from skelpipe.untrusted import whole

__all__ = ["WebShard", "draw_seed", "web_pipeline"]

Stage = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class WebShard:
    """One shard: what messages call it, the ids of its samples, the row of the first, and what maps its bytes."""

    name: str
    ids: Sequence[str]
    first: int
    map: Callable[[], np.ndarray]


def web_pipeline(
    shards: Sequence[WebShard],
    geometry: Geometry,
    *,
    shuffle: int = 0,
    seed: int = 0,
    epoch: int = 0,
    divided: bool = True,
) -> FluidWrapper:
    """Return the pipeline that `skelpipe.dataset.Dataset.webdataset` describes."""
    pipeline, draw = FluidWrapper(_InOrder(tuple(shards))), draw_seed(seed, epoch)
    if shuffle:
        pipeline.append(shuffled(len(shards), initial=len(shards), seed=draw))
    if divided:
        pipeline.append(shardlists.split_by_node)
        pipeline.append(shardlists.split_by_worker)
    pipeline.append(_Opened(geometry))
    pipeline.append(pipelinefilter(tar_file_expander)())
    pipeline.append(pipelinefilter(group_by_keys)())
    pipeline.append(_Decoded(geometry, {shard.name: shard for shard in shards}))
    if shuffle:
        pipeline.append(shuffled(shuffle, initial=shuffle, seed=draw))
    return pipeline


@dataclass(frozen=True)
class _InOrder:
    """Yields all shards."""

    shards: tuple[WebShard, ...]

    def __call__(self) -> Stage:
        for shard in self.shards:
            yield {"url": shard.name, "shard": shard}


@dataclass(frozen=True)
class _Opened:
    """Maps a shard's bytes and checks that it is the one of the card before webdataset reads it."""

    geometry: Geometry

    def __call__(self, shards: Iterable[dict[str, Any]]) -> Stage:
        for source in shards:
            shard: WebShard = source["shard"]
            content = shard.map()
            check_shard(content, self.geometry, shard.ids, shard.name)
            yield {"url": shard.name, "stream": _Bytes(content)}


@dataclass(frozen=True)
class _Decoded:
    """Makes arrays and numbers of members. Webdataset's own decoders, which may unpickle, are not used."""

    geometry: Geometry
    shards: dict[str, WebShard]

    def __call__(self, samples: Iterable[dict[str, Any]]) -> Stage:
        member, preamble = f"{self.geometry.view}.npy", self.geometry.preamble
        name, number = None, 0
        for sample in samples:
            number = number + 1 if sample["__url__"] == name else 0
            shard = self.shards[name := sample["__url__"]]
            npy, label = sample.get(member, b""), sample.get("cls", b"")
            digits = whole(label.removeprefix(b"-").decode("latin-1"))
            if len(npy) != self.geometry.npy_bytes or not npy.startswith(preamble) or digits is None:
                raise DatasetError(f"{name}: record {number} ({sample['__key__']}) is not the one of the card")
            clip = np.frombuffer(npy, self.geometry.dtype, offset=len(preamble)).reshape(self.geometry.shape)
            yield {
                "__key__": sample["__key__"],
                "__url__": name,
                "id": shard.ids[number],
                "index": shard.first + number,
                "cls": -digits if label.startswith(b"-") else digits,
                member: clip.astype(np.float32),
            }


class _Bytes(io.RawIOBase):
    """A file that is read from first to last out of mapped bytes, uint8 [n], without a copy of them all."""

    def __init__(self, content: np.ndarray) -> None:
        self._content, self._at = np.ascontiguousarray(content).data, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._content[self._at : self._at + len(buffer)]

        def copy() -> None:
            buffer[: len(piece)] = piece

        reading(copy)
        self._at += len(piece)
        return len(piece)


def draw_seed(seed: int, epoch: int) -> int:
    """Return one number for both; an epoch's number is far below 2^32."""
    return (seed << 32) + epoch
