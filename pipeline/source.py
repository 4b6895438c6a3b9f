"""What runs ahead of a loader: rows gathered into reused memory, parameters drawn, both sent to the device."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.entries import Entry
from skelpipe.stream import Stream

__all__ = ["Ready", "Source", "map_tensors", "shares"]

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


class Source:
    """What the thread does: gather rows into a buffer, draw parameters, send both to the device."""

    def __init__(self, stream: Stream, view: str, recipe: Mapping[str, Entry], device: torch.device) -> None:
        self.stream, self.view, self.recipe, self.device = stream, view, recipe, device
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None
        rows = -(-stream.batch_size // stream.world)
        self.buffers = Buffers((rows, *stream.dataset.shape), pinned=self.side is not None)

    def read(self, epoch: int, first: int) -> Iterator[Ready]:
        """Yield the batches of `epoch` from step `first` on."""
        steps = len(self.stream)
        for start in range(first, steps, DRAWN_AT_ONCE):
            block = range(start, min(start + DRAWN_AT_ONCE, steps))
            rows = [self.stream.rows(epoch, step) for step in block]
            drawn = self._draw(epoch, block, rows)
            ends = np.cumsum([len(r) for r in rows]).tolist()
            for step, low, high in zip(block, [0, *ends], ends, strict=False):
                buffer = self.buffers.take()
                batch = self.stream.batch(epoch, step, out={self.view: buffer.numpy()})
                label, index = torch.from_numpy(batch.label), torch.from_numpy(batch.index)
                tensors = buffer[: high - low], label, index, map_tensors(itemgetter(slice(low, high)), drawn)
                yield Ready(tensors, buffer) if self.device.type == "cpu" else self._send(tensors, buffer)

    def _draw(self, epoch: int, block: range, rows: list[NDArray[np.int64]]) -> dict[str, Any]:
        """Draw every view's parameters for the rows of this block of steps."""
        index = torch.from_numpy(np.concatenate(rows))
        step = torch.from_numpy(np.repeat(block, [len(r) for r in rows]))
        shape = torch.Size((len(index), *self.stream.dataset.shape))
        return {
            name: entry.sample(Draws(self.stream.seed, epoch, index, slot, step), shape)
            for slot, (name, entry) in enumerate(self.recipe.items())
        }

    def _send(self, tensors: tuple[Tensor, Tensor, Tensor, dict[str, Any]], buffer: Tensor) -> Ready:
        """Copy to the device; with CUDA on a stream of its own, while the compute stream goes on."""
        with torch.cuda.stream(self.side):  # nothing where there is none
            sent = map_tensors(lambda t: t.to(self.device, non_blocking=self.side is not None), tensors)
            arrived = None if self.side is None else self.side.record_event()
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
