"""What runs ahead of a loader: clips read into reused memory, parameters drawn, both sent to the device.

On a CPU, views that begin by mixing axes read the clips where they are stored, fetched from disk here.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelpipe.dataset.mapped_clips import MappedClips
from skelpipe.loader.cross_rank_donors import RankShare, RankShares
from skelpipe.loader.drawn import DrawnView
from skelpipe.loader.nested import map_tensors
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import BatchInProgress, View, ViewRecipe

__all__ = ["DRAWN_AT_ONCE", "ClipSource", "MappedReader", "ReadAhead", "Ready", "shares"]

DrawnBatches: TypeAlias = tuple[Tensor, Tensor, Tensor | None, dict[str, DrawnView]]

DRAWN_AT_ONCE = 16  # batches whose parameters are drawn in one go: many small operations become few
SOON = 2  # batches of the first such block


@dataclass(frozen=True)
class Ready:
    """A batch made ready: its clips on the device, and where its label, index and the plans of its views stand.

    The first `own` clips are the rank's share, the others donors (see `cross_rank_donors`). `drawn` holds label,
    index, places and plans for a run of batches, of which this one has `rows`. `whole` are the views that are made
    of guests too. `buffer` is what the clips lie in, where that is not free for the next batch yet; `arrived` is
    when the copies to the device are done, where they may still be under way. `made` are views that there was time
    for already.
    """

    clips: Tensor | MappedClips
    own: int
    drawn: DrawnBatches
    rows: slice
    whole: Collection[str]
    buffer: Tensor | None = None
    arrived: torch.cuda.Event | None = None
    made: dict[str, View] = field(default_factory=dict)

    def told(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return labels and indices of own clips, and the places of all in the global batch where some are not."""
        label, index, places, _ = self.drawn
        return label[self._own_rows], index[self._own_rows], None if places is None else places[self.rows]

    @property
    def _own_rows(self) -> slice:
        return slice(self.rows.start, self.rows.start + self.own)

    def make(self, name: str, entry: ViewRecipe, scene: BatchInProgress) -> View:
        """Return a view, of guests too if it is one of `whole`."""
        plan = self.drawn[3][name]
        if name in self.whole or self._own_rows == self.rows:
            return entry.make(scene, plan.part(self.rows))
        return entry.make(scene.first(self.own), plan.part(self._own_rows))


class ClipSource(Protocol):
    """Reads the clips of a stream, one view of them, into memory on `device`."""

    @property
    def device(self) -> torch.device: ...

    def read(self, epoch: int, step: int, rows: NDArray[np.int64], out: Tensor) -> None:
        """Write the clips of `rows`, int64[n], all of this global batch, into `out`, float32[n,C,T,V,M], whole on
        return."""
        ...

    def mapped(self, rows: np.ndarray) -> MappedClips | None:
        """Return the clips of these rows, int64[n], where they lie, in memory; None where that cannot be."""
        ...

    def close(self) -> None:
        """Give back what reading ahead holds; a later `read` begins anew."""
        ...


class MappedReader:
    """ClipSource gathered from the stream's memory-mapped shards."""

    device = torch.device("cpu")

    def __init__(self, stream: Stream, view: str) -> None:
        self._stream, self._view = stream, view

    def read(self, epoch: int, step: int, rows: NDArray[np.int64], out: Tensor) -> None:
        self._stream.batch(epoch, step, {self._view: out.numpy()}, rows)

    def mapped(self, rows: np.ndarray) -> MappedClips | None:
        stored = self._stream.mapped(rows, self._view)
        if stored is not None:
            stored.fetch()
        return stored

    def close(self) -> None:
        pass


class ReadAhead:
    """What the thread does: read clips into a buffer, draw what is done with them, send both to the device."""

    def __init__(
        self,
        stream: Stream,
        clips: ClipSource,
        recipe: Mapping[str, ViewRecipe],
        parts: RankShares,
        device: torch.device,
        derive: Callable[[Tensor], Tensor],
    ) -> None:
        self.stream, self.clips, self.recipe, self.parts = stream, clips, recipe, parts
        self.device, self.derive = device, derive
        takes_mapped = device.type == "cpu" and all(entry.takes_mapped for entry in recipe.values())
        self.stored = takes_mapped and clips.mapped(np.zeros(0, np.int64)) is not None
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None
        share = -(-stream.batch_size // stream.world)
        self.buffers = Buffers((share, *stream.dataset.shape), pinned=self.side is not None)
        self._labels = np.asarray(stream.dataset.labels(stream.subset), dtype=np.int64)

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
                    ready.made[name] = ready.make(name, entry, BatchInProgress(ready.clips, self.derive))

    def _read_block(self, epoch: int, block: range, idle: Callable[[], bool]) -> Iterator[Ready]:
        parts, plans = self.parts.planned(epoch, block)
        index = np.concatenate([part.rows for part in parts])
        places = [part.places for part in parts if part.places is not None]
        numbers = (self._labels[index], index, np.concatenate(places) if places else None)
        drawn: DrawnBatches = self._sent((*(n if n is None else torch.from_numpy(n) for n in numbers), plans))
        ends = np.cumsum([len(part.rows) for part in parts]).tolist()
        whole = self.parts.with_guests(plans) if places else ()
        stored = self.clips.mapped(index) if self.stored else None
        for step, part, low, high in zip(block, parts, [0, *ends], ends, strict=False):
            if stored is not None:
                yield Ready(stored[low:high], part.own, drawn, slice(low, high), whole)
            else:
                ready = self._read_one(epoch, step, part, drawn, slice(low, high), whole)
                if self.device.type == "cpu":
                    self._make(ready, idle)
                yield ready

    def _read_one(
        self, epoch: int, step: int, part: RankShare, drawn: DrawnBatches, rows: slice, whole: Collection[str]
    ) -> Ready:
        count = len(part.rows)
        if self.clips.device.type != "cpu":
            clips = self._read_there(epoch, step, part.rows)
            return Ready(clips, part.own, drawn, rows, whole, arrived=self._arrival())
        buffer = self.buffers.take(count)
        self.clips.read(epoch, step, part.rows, buffer[:count])
        if self.device.type == "cpu":
            return Ready(buffer[:count], part.own, drawn, rows, whole, buffer)
        clips = self._sent(buffer[:count])
        arrived = self._arrival()
        self.buffers.give(buffer, arrived)
        return Ready(clips, part.own, drawn, rows, whole, arrived=arrived)

    def _read_there(self, epoch: int, step: int, rows: NDArray[np.int64]) -> Tensor:
        """Have the clips read into memory of the device."""
        with torch.cuda.stream(self.side):
            clips = torch.empty((len(rows), *self.stream.dataset.shape), dtype=torch.float32, device=self.device)
            self.clips.read(epoch, step, rows, clips)
        return clips

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
        (self._rows, *self._shape), self._pinned = shape, pinned
        self._kept = 1 if pinned else 0  # the last one given may still be on its way to the device
        self._free: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def take(self, rows: int) -> Tensor:
        """Return a buffer of at least that many rows."""
        if len(self._free) > self._kept:
            buffer, copied = self._free.popleft()
            if copied is not None:
                copied.synchronize()
            if len(buffer) >= rows:
                return buffer
        self._rows = max(self._rows, rows)
        return torch.empty((self._rows, *self._shape), dtype=torch.float32, pin_memory=self._pinned)

    def give(self, buffer: Tensor, copied: torch.cuda.Event | None = None) -> None:
        """Return `buffer`, free from the moment `copied` on."""
        self._free.append((buffer, copied))


def shares(x: Tensor, buffer: Tensor) -> bool:
    return x.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()
