"""What runs ahead of a loader: clips read into reused memory, parameters drawn, both sent to the device.

On a CPU, views that begin by mixing axes read the clips where they are stored, fetched from disk here.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.entries import Entry, Scene, View
from skelpipe.stored import StoredClips
from skelpipe.stream import Stream

__all__ = ["DRAWN_AT_ONCE", "Clips", "MappedClips", "Ready", "Source", "map_tensors", "shares"]

Drawn: TypeAlias = tuple[Tensor, Tensor, dict[str, Any]]

DRAWN_AT_ONCE = 16  # batches whose parameters are drawn in one go: many small operations become few
SOON = 2  # batches of the first such block


@dataclass(frozen=True)
class Ready:
    """A batch made ready: its clips on the device, and where its label, index and drawn parameters stand.

    `drawn` holds those three for a run of batches, of which this one has `rows`. `buffer` is what the clips lie
    in, where that is not free for the next batch yet; `arrived` is when the copies to the device are done, where
    they may still be under way. `made` are views that there was time for already.
    """

    clips: Tensor | StoredClips
    drawn: Drawn
    rows: slice
    buffer: Tensor | None = None
    arrived: torch.cuda.Event | None = None
    made: dict[str, View] = field(default_factory=dict)

    @cached_property
    def own(self) -> Drawn:
        """This batch's label, index and parameters."""
        label, index, params = map_tensors(itemgetter(self.rows), self.drawn)
        return label, index, params


class Clips(Protocol):
    """Reads the clips of a stream, one view of them, into memory on `device`."""

    @property
    def device(self) -> torch.device: ...

    def read(self, epoch: int, step: int, out: Tensor) -> None:
        """Write the clips of `stream.rows(epoch, step)` into `out`, float32[n,C,T,V,M], whole on return."""
        ...

    def stored(self, rows: np.ndarray) -> StoredClips | None:
        """Return the clips of these rows, int64[n], where they lie, in memory; None where that cannot be."""
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

    def stored(self, rows: np.ndarray) -> StoredClips | None:
        stored = self._stream.stored(rows, self._view)
        if stored is not None:
            stored.fetch()
        return stored

    def close(self) -> None:
        pass


class Source:
    """What the thread does: read clips into a buffer, draw parameters, send both to the device.

    It raises at once what an augmentation says of clips of a shape that does not suit it, such as a UsageError.
    """

    def __init__(
        self,
        stream: Stream,
        clips: Clips,
        recipe: Mapping[str, Entry],
        device: torch.device,
        derive: Callable[[Tensor], Tensor],
    ) -> None:
        self.stream, self.clips, self.recipe, self.device, self.derive = stream, clips, recipe, device, derive
        takes_stored = device.type == "cpu" and all(entry.takes_stored for entry in recipe.values())
        self.stored = takes_stored and clips.stored(np.zeros(0, np.int64)) is not None
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None
        rows = -(-stream.batch_size // stream.world)
        self.buffers = Buffers((rows, *stream.dataset.shape), pinned=self.side is not None)
        self._labels = np.asarray(stream.dataset.labels(stream.split), dtype=np.int64)
        self._draw(0, range(1), [np.zeros(1, np.int64)])  # a shape that a view refuses is refused before reading

    def read(self, epoch: int, first: int, idle: Callable[[], bool]) -> Iterator[Ready]:
        """Yield the batches of `epoch` from step `first` on, and of stored clips those of later epochs.

        On a CPU, and while `idle()`, views that come from clips in memory alone are made as well: the consumer,
        who has them made otherwise, gets help where it is the slower one. Of stored clips the consumer makes all:
        two threads that take turns at Python's lock lose more than they share.
        """
        try:
            for block in _blocks(first, len(self.stream), SOON):
                yield from self._read_block(epoch, block, idle)
            while self.stored:
                epoch += 1
                for block in _blocks(0, len(self.stream), DRAWN_AT_ONCE):
                    yield from self._read_block(epoch, block, idle)
        finally:
            self.clips.close()

    def _make(self, ready: Ready, idle: Callable[[], bool]) -> None:
        with torch.no_grad():
            for name, entry in self.recipe.items():
                if entry.from_clips_alone and idle():
                    ready.made[name] = entry.make(Scene(ready.clips, self.derive), ready.own[2][name])

    def _read_block(self, epoch: int, block: range, idle: Callable[[], bool]) -> Iterator[Ready]:
        rows = [self.stream.rows(epoch, step) for step in block]
        index = np.concatenate(rows)
        params = self._draw(epoch, block, rows)
        drawn: Drawn = self._sent((torch.from_numpy(self._labels[index]), torch.from_numpy(index), params))
        ends = np.cumsum([len(r) for r in rows]).tolist()
        stored = self.clips.stored(index) if self.stored else None
        for step, low, high in zip(block, [0, *ends], ends, strict=False):
            if stored is not None:
                yield Ready(stored.part(low, high), drawn, slice(low, high))
            else:
                ready = self._read_one(epoch, step, drawn, slice(low, high))
                if self.device.type == "cpu":
                    self._make(ready, idle)
                yield ready

    def _read_one(self, epoch: int, step: int, drawn: Drawn, rows: slice) -> Ready:
        count = rows.stop - rows.start
        if self.clips.device.type != "cpu":
            return Ready(self._read_there(epoch, step, count), drawn, rows, arrived=self._arrival())
        buffer = self.buffers.take()
        self.clips.read(epoch, step, buffer[:count])
        if self.device.type == "cpu":
            return Ready(buffer[:count], drawn, rows, buffer)
        clips = self._sent(buffer[:count])
        arrived = self._arrival()
        self.buffers.give(buffer, arrived)
        return Ready(clips, drawn, rows, arrived=arrived)

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

    def _sent(self, tensors: Any) -> Any:
        """Copy to the device; with CUDA on a stream of its own, while the compute stream goes on."""
        if self.device.type == "cpu":
            return tensors
        with torch.cuda.stream(self.side):  # nothing where there is none
            return map_tensors(lambda t: t.to(self.device, non_blocking=self.side is not None), tensors)

    def _arrival(self) -> torch.cuda.Event | None:
        return None if self.side is None else self.side.record_event()


def _blocks(first: int, end: int, size: int) -> Iterator[range]:
    """Yield the steps from `first` on in blocks, the first one of `size`: small where somebody waits for it."""
    while first < end:
        yield range(first, min(first + size, end))
        first, size = first + size, min(2 * size, DRAWN_AT_ONCE)


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
