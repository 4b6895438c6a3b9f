"""What runs ahead of a loader: clips read into reused memory, parameters drawn, both sent to the device."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.entries import Entry
from skelpipe.stream import Stream

__all__ = ["Clips", "MappedClips", "Ready", "Source", "map_tensors", "shares"]

DRAWN_AT_ONCE = 16  # batches whose parameters are drawn in one go: many small operations become few


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch read ahead: clips, label, index and drawn parameters on the device, nothing applied yet.

    `buffer` is what the clips lie in, where that is not free for the next batch yet; `arrived` is when the
    copies to the device are done, where they may still be under way.
    """

    tensors: tuple[Tensor, Tensor, Tensor, dict[str, Any]]
    buffer: Tensor | None = None
    arrived: torch.cuda.Event | None = None


class Clips(Protocol):
    """Reads the clips of a stream, one view of them, into memory on `device`."""

    @property
    def device(self) -> torch.device: ...

    def read(self, epoch: int, step: int, out: Tensor) -> None:
        """Write the clips of `stream.rows(epoch, step)` into `out`, float32[n,C,T,V,M], whole on return."""
        ...

    def close(self) -> None:
        """Give back what reading ahead holds; a later `read` begins anew."""
        ...


class MappedClips:
    """Clips gathered from the stream's memory-mapped shards."""

    device = torch.device("cpu")

    def __init__(self, stream: Stream, view: str) -> None:
        self._stream, self._view = stream, view

    def read(self, epoch: int, step: int, out: Tensor) -> None:
        self._stream.batch(epoch, step, out={self._view: out.numpy()})

    def close(self) -> None:
        pass


class Source:
    """What the thread does: read clips into a buffer, draw parameters, send both to the device.

    It raises at once what an augmentation says of clips of a shape that does not suit it, such as a UsageError.
    """

    def __init__(self, stream: Stream, clips: Clips, recipe: Mapping[str, Entry], device: torch.device) -> None:
        self.stream, self.clips, self.recipe, self.device = stream, clips, recipe, device
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None
        rows = -(-stream.batch_size // stream.world)
        self.buffers = Buffers((rows, *stream.dataset.shape), pinned=self.side is not None)
        self._labels = np.asarray(stream.dataset.labels(stream.split), dtype=np.int64)
        self._draw(0, range(1), [np.zeros(1, np.int64)])  # a shape that a view refuses is refused before reading

    def read(self, epoch: int, first: int) -> Iterator[Ready]:
        """Yield the batches of `epoch` from step `first` on."""
        try:
            for start in range(first, len(self.stream), DRAWN_AT_ONCE):
                yield from self._read_block(epoch, range(start, min(start + DRAWN_AT_ONCE, len(self.stream))))
        finally:
            self.clips.close()

    def _read_block(self, epoch: int, block: range) -> Iterator[Ready]:
        rows = [self.stream.rows(epoch, step) for step in block]
        drawn = self._draw(epoch, block, rows)
        ends = np.cumsum([len(r) for r in rows]).tolist()
        for step, index, low, high in zip(block, rows, [0, *ends], ends, strict=False):
            label = torch.from_numpy(self._labels[index])
            rest = label, torch.from_numpy(index), map_tensors(itemgetter(slice(low, high)), drawn)
            if self.clips.device.type == "cpu":
                buffer = self.buffers.take()
                self.clips.read(epoch, step, buffer[: high - low])
                tensors = buffer[: high - low], *rest
                yield Ready(tensors, buffer) if self.device.type == "cpu" else self._send(tensors, buffer)
            else:
                yield self._send((self._read_there(epoch, step, high - low), *rest), None)

    def _read_there(self, epoch: int, step: int, rows: int) -> Tensor:
        """Have the clips read into memory of the device."""
        with torch.cuda.stream(self.side):
            clips = torch.empty((rows, *self.stream.dataset.shape), dtype=torch.float32, device=self.device)
            self.clips.read(epoch, step, clips)
        return clips

    def _draw(self, epoch: int, block: range, rows: list[NDArray[np.int64]]) -> dict[str, Any]:
        """Draw every view's parameters for the rows of this block of steps."""
        index = torch.from_numpy(np.concatenate(rows))
        step = torch.from_numpy(np.repeat(block, [len(r) for r in rows]))
        shape = torch.Size((len(index), *self.stream.dataset.shape))
        return {
            name: entry.sample(Draws(self.stream.seed, epoch, index, slot, step), shape)
            for slot, (name, entry) in enumerate(self.recipe.items())
        }

    def _send(self, tensors: tuple[Tensor, Tensor, Tensor, dict[str, Any]], buffer: Tensor | None) -> Ready:
        """Copy to the device; with CUDA on a stream of its own, while the compute stream goes on."""
        with torch.cuda.stream(self.side):  # nothing where there is none
            sent = map_tensors(lambda t: t.to(self.device, non_blocking=self.side is not None), tensors)
            arrived = None if self.side is None else self.side.record_event()
        if buffer is not None:
            self.buffers.give(buffer, arrived)
        return Ready(sent, arrived=arrived)


class Buffers:
    """Batches of host memory used again and again: fresh pages cost more than the copy into them."""

    def __init__(self, shape: tuple[int, ...], pinned: bool) -> None:
        self._shape, self._pinned = shape, pinned
        self._kept = 1 if pinned else 0  # the last one given may still be on its way to the device
        self._free: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def take(self) -> Tensor:
        if len(self._free) <= self._kept:
            return torch.empty(self._shape, dtype=torch.float32, pin_memory=self._pinned)
        buffer, copied = self._free.popleft()
        if copied is not None:
            copied.synchronize()
        return buffer

    def give(self, buffer: Tensor, copied: torch.cuda.Event | None = None) -> None:
        """Return `buffer`, free from the moment `copied` on."""
        self._free.append((buffer, copied))


def shares(x: Tensor, buffer: Tensor) -> bool:
    return x.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Apply `function` to every tensor in nested dicts, lists and tuples."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_tensors(function, value) for value in tree)
    return tree
