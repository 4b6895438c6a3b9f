"""The work that a loader does ahead: clips read into reused memory, parameters drawn, both copied to the device.

On a CPU, views whose first operation mixes axes read memory-mapped clips directly; here their pages are read from
disk.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, repeat
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelpipe.dataset.mapped_clips import MappedClips
from skelpipe.loader.cross_rank_donors import RankShare, RankShares
from skelpipe.loader.nested import map_tensors
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Augmented, BatchInProgress, DrawnView, View, ViewRecipe

__all__ = ["DRAWN_AT_ONCE", "ClipSource", "MappedReader", "ReadAhead", "Ready", "shares_memory"]

DRAWN_AT_ONCE = 16  # batches whose parameters are drawn together: few large operations instead of many small ones
FIRST_BLOCK = 2  # batches whose parameters are drawn together at the start


class DrawnBatch(NamedTuple):
    """What a batch is made of beside its clips.

    The first `own` clips are the rank's share, the others are donors (see `cross_rank_donors`). All have labels
    and indices, and with donors `positions`, those in the global batch. `views` are drawn for several batches;
    this one has their `rows`. `of_donors` are the views made of donors too.
    """

    labels: Tensor
    indices: Tensor
    positions: Tensor | None
    views: Mapping[str, DrawnView]
    rows: slice
    own: int
    of_donors: Collection[str]


@dataclass(slots=True, eq=False)
class Ready:
    """A batch that is ready: its clips on the device, and what was drawn for it.

    `buffer` holds the clips if it is still in use; `arrived` is the event after the copies to the device, if they
    may still run. `made` are the views that the thread has already made. `present` says which bodies are not zeros
    throughout, bool [n, M] on the host, where that is asked for.
    """

    clips: Tensor | MappedClips
    drawn: DrawnBatch
    buffer: Tensor | None = None
    arrived: torch.cuda.Event | None = None
    made: dict[str, View] = field(default_factory=dict)
    present: Tensor | None = None

    def parts(self) -> dict[str, DrawnView]:
        """Return what was drawn for the clips of this batch."""
        return {name: view.part(self.drawn.rows) for name, view in self.drawn.views.items()}

    def make(self, name: str, recipe: ViewRecipe, batch: BatchInProgress) -> View:
        """Return a view, of donors too if it is one of `of_donors`."""
        _, _, positions, views, rows, own, of_donors = self.drawn
        if positions is None or name in of_donors:
            return recipe.make(batch, views[name].part(rows))
        return recipe.make(batch.first(own), views[name].part(slice(rows.start, rows.start + own)))


class ClipSource(Protocol):
    """Reads the clips of a stream, one view of them, into memory on `device`."""

    @property
    def device(self) -> torch.device: ...

    def read(self, epoch: int, step: int, rows: NDArray[np.int64], out: Tensor) -> None:
        """Write the clips of `rows`, int64[n], of this global batch into `out`, float32[n,C,T,V,M], and wait."""
        ...

    def mapped(self, rows: np.ndarray) -> MappedClips | None:
        """Return the clips of these rows, int64[n], memory-mapped with all pages read; None if not possible."""
        ...

    def close(self) -> None:
        """Release what reading ahead holds; a later `read` starts again."""
        ...


class MappedReader:
    """A ClipSource that gathers from the stream's memory-mapped shards."""

    device = torch.device("cpu")

    def __init__(self, stream: Stream, view: str) -> None:
        self._stream, self._view = stream, view

    def read(self, epoch: int, step: int, rows: NDArray[np.int64], out: Tensor) -> None:
        self._stream.batch(epoch, step, {self._view: out.numpy()}, rows)

    def mapped(self, rows: np.ndarray) -> MappedClips | None:
        clips = self._stream.mapped(rows, self._view)
        if clips is not None:
            clips.fetch()
        return clips

    def close(self) -> None:
        pass


class ReadAhead:
    """The work of the thread: read clips into a buffer, draw parameters, copy both to the device."""

    def __init__(
        self,
        stream: Stream,
        clips: ClipSource,
        recipe: Mapping[str, ViewRecipe],
        shares: RankShares,
        device: torch.device,
        derive: Callable[[Tensor], Tensor],
        looks: bool = False,
    ) -> None:
        """With `looks` say which bodies are present in clips that are read for another device."""
        self.looks = looks
        self.stream, self.clips, self.recipe, self.shares = stream, clips, recipe, shares
        self.device, self.derive = device, derive
        takes_mapped = device.type == "cpu" and all(each.takes_mapped for each in recipe.values())
        self.reads_mapped = takes_mapped and clips.mapped(np.zeros(0, np.int64)) is not None
        self.copy_stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        share = -(-stream.batch_size // stream.world)
        self.buffers = Buffers((share, *stream.dataset.shape), pinned=self.copy_stream is not None)

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        return np.asarray(self.stream.dataset.stored_labels(self.stream.subset), dtype=np.int64)

    def read(self, epoch: int, first: int, idle: Callable[[], bool]) -> Iterator[deque[Ready]]:
        """Yield the batches of `epoch` from step `first` on, then, of memory-mapped clips, those of later epochs.

        Each time that is one batch; of memory-mapped clips, which take no memory of their own, it is a block: so a
        consumer spends less per batch.

        On a CPU, while `idle()`, views that follow from clips in memory alone are made here as well, which helps a
        consumer that is slower. Views of memory-mapped clips are all made by the consumer: two threads
        that compete for Python's global lock lose more time than they save.
        """
        try:
            for block in _blocks(first, len(self.stream), FIRST_BLOCK):
                yield from self._read_block(epoch, block, idle)
            while self.reads_mapped:
                epoch += 1
                for block in _blocks(0, len(self.stream), DRAWN_AT_ONCE):
                    yield from self._read_block(epoch, block, idle)
        finally:
            self.clips.close()

    def _make(self, ready: Ready, idle: Callable[[], bool]) -> None:
        with torch.no_grad():
            for name, recipe in self.recipe.items():
                if recipe.from_clips_alone and idle():
                    ready.made[name] = ready.make(name, recipe, BatchInProgress(ready.clips, self.derive))

    def _read_block(self, epoch: int, block: range, idle: Callable[[], bool]) -> Iterator[deque[Ready]]:
        shares, views = self.shares.draw(epoch, block)
        batches = self._drawn(shares, views)
        if self.reads_mapped:
            clips = self.clips.mapped(np.concatenate([share.rows for share in shares]))
            assert clips is not None, "they are mapped always or never"
            self._prepare(clips, views)
            yield deque(Ready(clips[drawn.rows], drawn) for drawn in batches)
            return
        for step, share, drawn in zip(block, shares, batches, strict=True):
            ready = self._read_one(epoch, step, share.rows, drawn)
            if self.device.type == "cpu":
                self._make(ready, idle)
            yield deque([ready])

    def _prepare(self, clips: MappedClips, views: Mapping[str, DrawnView]) -> None:
        """Make the programs of views here, so that they take memory of this thread.

        With the consumer's, its batches would come to lie elsewhere with every block, out of the cache.
        """
        for name, recipe in self.recipe.items():
            if isinstance(recipe, Augmented):
                views[name].program(recipe.augmentation, clips)

    def _drawn(self, shares: Sequence[RankShare], views: Mapping[str, DrawnView]) -> list[DrawnBatch]:
        """Send to the device what was drawn for these shares, one after the other; return each one's part."""
        index = np.concatenate([share.rows for share in shares])
        found = [share.positions for share in shares if share.positions is not None]
        of_donors = self.shares.views_of_donors(views) if found else ()
        columns = [self._labels[index], index, *([np.concatenate(found)] if found else [])]
        sent, views = self._sent(([torch.from_numpy(column) for column in columns], views))
        sizes = [len(share.rows) for share in shares]
        labels, indices, *positions = (column.split(sizes) for column in sent)
        places: Iterable[Tensor | None] = positions[0] if positions else repeat(None)
        rows = (slice(*ends) for ends in pairwise(np.cumsum([0, *sizes]).tolist()))
        return [
            DrawnBatch(label, index, place, views, each, share.own, of_donors)
            for label, index, place, each, share in zip(labels, indices, places, rows, shares, strict=False)
        ]

    def _read_one(self, epoch: int, step: int, rows: NDArray[np.int64], drawn: DrawnBatch) -> Ready:
        count = len(rows)
        if self.clips.device.type != "cpu":
            return Ready(self._read_on_device(epoch, step, rows), drawn, arrived=self._arrival())
        buffer = self.buffers.take(count)
        self.clips.read(epoch, step, rows, buffer[:count])
        if self.device.type == "cpu":
            return Ready(buffer[:count], drawn, buffer)
        clips = self._sent(buffer[:count])
        arrived = self._arrival()
        present = _present(buffer[:count]) if self.looks else None
        self.buffers.give(buffer, arrived)
        return Ready(clips, drawn, arrived=arrived, present=present)

    def _read_on_device(self, epoch: int, step: int, rows: NDArray[np.int64]) -> Tensor:
        """Let the source read clips into memory of the device."""
        with torch.cuda.stream(self.copy_stream):
            clips = torch.empty((len(rows), *self.stream.dataset.shape), dtype=torch.float32, device=self.device)
            self.clips.read(epoch, step, rows, clips)
        return clips

    def _sent(self, tensors: Any) -> Any:
        """Copy to the device; with CUDA on a separate stream, while the compute stream goes on."""
        if self.device.type == "cpu":
            return tensors
        with torch.cuda.stream(self.copy_stream):  # does nothing without CUDA
            return map_tensors(lambda t: t.to(self.device, non_blocking=self.copy_stream is not None), tensors)

    def _arrival(self) -> torch.cuda.Event | None:
        return None if self.copy_stream is None else self.copy_stream.record_event()


def _present(clips: Tensor) -> Tensor:
    """Return which bodies of clips [n, C, T, V, M] on the host are not zeros throughout, bool [n, M]."""
    values = clips.numpy()
    present = (values[:, :, 0] != 0).any((1, 2))
    unsure = np.flatnonzero(~present.all(1))  # mostly a body that is there is there in the first frame
    present[unsure] = (values[unsure] != 0).any((1, 2, 3))
    return torch.from_numpy(present)


def _blocks(first: int, end: int, size: int) -> Iterator[range]:
    """Yield the steps from `first` on in blocks. The first has `size` steps: few, because the consumer waits."""
    while first < end:
        yield range(first, min(first + size, end))
        first, size = first + size, min(2 * size, DRAWN_AT_ONCE)


class Buffers:
    """Reused batches of host memory: new pages would cost more time than the copy into them."""

    def __init__(self, shape: tuple[int, ...], pinned: bool) -> None:
        (self._rows, *self._shape), self._pinned = shape, pinned
        self._kept = 1 if pinned else 0  # a copy from the last one given back may still run
        self._free: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def take(self, rows: int) -> Tensor:
        """Return a buffer of at least so many rows."""
        if len(self._free) > self._kept:
            buffer, copied = self._free.popleft()
            if copied is not None:
                copied.synchronize()
            if len(buffer) >= rows:
                return buffer
        self._rows = max(self._rows, rows)
        return torch.empty((self._rows, *self._shape), dtype=torch.float32, pin_memory=self._pinned)

    def give(self, buffer: Tensor, copied: torch.cuda.Event | None = None) -> None:
        """Give `buffer` back; it is free once the event `copied` has occurred."""
        self._free.append((buffer, copied))


def shares_memory(x: Tensor, buffer: Tensor) -> bool:
    return x.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()
