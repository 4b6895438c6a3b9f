"""Batches on the training device: rows gathered ahead on a thread, augmented on the device when handed out."""

import keyword
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelpipe import views
from skelpipe.augment.draws import Draws
from skelpipe.errors import UsageError
from skelpipe.prefetch import Prefetch
from skelpipe.stream import Stream

__all__ = ["Augmentation", "Batch", "Loader"]


class Augmentation(Protocol):
    """What a recipe may hold, such as a `Chain`.

    `sample` returns tensors with one row a sample, alone or in dicts, lists and tuples: parameters of
    several batches are drawn together and cut apart.
    """

    def sample(self, draws: Draws, shape: torch.Size) -> Any: ...

    def apply(self, x: Tensor, params: Any) -> Tensor: ...


DRAWN_AT_ONCE = 16  # batches whose parameters are drawn in one go: many small operations become few

Recipe: TypeAlias = Mapping[str, Augmentation | None]


@dataclass(frozen=True)
class Batch:
    """n samples on the device. `views` maps each name of the recipe to float32[n,C,T,V,M], and each name is
    an attribute too (`batch.query`); `label` and `index` (the row in the split) are int64[n]."""

    views: dict[str, Tensor]
    label: Tensor
    index: Tensor
    epoch: int
    step: int

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self.__dict__["views"][name]
        except KeyError:
            raise AttributeError(f"the batch has no view {name!r}") from None

    def __len__(self) -> int:
        return len(self.label)


class Loader:
    """Hand out the batches of `stream` on `device`, each view of the recipe augmented by draws of its own.

    `recipe` maps the names of a batch's views to their augmentation, or to None for the clip as it is (all
    such views share one tensor). View number i draws from `Draws(seed, epoch, index, slot=i)`: neither the
    rest of the batch, nor the rank, nor `prefetch` changes what a sample gets. `view` is what all of them
    show: with derive="after" the joint stream is read, augmented, and `view` derived from the result; with
    derive="stored" the view's own stream is read and augmented.

    Iterating yields the rest of the current epoch, then moves to the next epoch. The position, and with it
    `state()`, is that of the stream and counts batches handed out, not those read ahead. A loader belongs
    to one thread; a new iteration ends the one before it.
    """

    def __init__(
        self,
        stream: Stream,
        device: torch.device | str,
        recipe: Recipe,
        *,
        derive: str = "after",
        view: str = "joint",
        prefetch: int = 2,
    ) -> None:
        """Keep at most `prefetch` batches ready. Raises UsageError when the arguments do not fit."""
        if derive not in ("after", "stored"):
            raise UsageError(f"derive is 'after' or 'stored', not {derive!r}")
        if view not in views.VIEWS:
            raise UsageError(f"there is no view {view!r}; there are: {', '.join(views.VIEWS)}")
        if prefetch < 1:
            raise UsageError(f"prefetch is {prefetch}; at least 1 batch must be read ahead")
        source = "joint" if derive == "after" else view
        if source not in stream.views:
            raise UsageError(
                f"derive={derive!r} of the view {view!r} reads the stream {source!r}, "
                f"but only {', '.join(stream.views)} is opened"
            )
        self.stream, self.device, self.recipe = stream, _usable(device), _named(recipe)
        self.derive, self.view, self.prefetch = derive, view, prefetch
        self._source = _Source(stream, source, self.recipe, self.device)
        self._ahead: Prefetch[_Ready] | None = None
        if self.device.type == "cpu":
            _keep_freed_memory()

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return len(self.stream)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch, then move to the start of the next.

        An error of the reading thread is raised here, when its batch's turn has come.
        """
        self.close()
        stream, source = self.stream, self._source
        epoch, first = stream.epoch, stream.step
        ahead = self._ahead = Prefetch(lambda: source.read(epoch, first), self.prefetch, "skelpipe-loader")
        try:
            for step in range(first, len(stream)):
                ready = next(ahead, None)
                if ready is None:
                    raise RuntimeError("the loader was closed, or started anew, while this iteration ran")
                batch = self._finish(ready, epoch, step)
                del ready
                stream.seek(epoch, step + 1)
                yield batch
            stream.seek(epoch + 1, 0)
        finally:
            ahead.close()

    def close(self) -> None:
        """End the running iteration and its thread, if there is one. The position stays."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def state(self) -> dict[str, Any]:
        """Return the state of the stream: where the batches handed out so far end."""
        return self.stream.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, as `Stream.load_state` does; a running iteration ends."""
        self.close()
        self.stream.load_state(state)

    def _finish(self, ready: "_Ready", epoch: int, step: int) -> Batch:
        """Augment and derive the views on the device's current stream."""
        clips, label, index, params = ready.tensors
        if ready.arrived is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(ready.arrived)
            _map(lambda t: t.record_stream(current), ready.tensors)
        made: dict[str, Tensor] = {}
        with torch.no_grad():
            for name, augmentation in self.recipe.items():
                x = clips if augmentation is None else augmentation.apply(clips, params[name])
                made[name] = self._derive(x)
        if ready.buffer is not None and not any(_shares(x, ready.buffer) for x in made.values()):
            self._source.buffers.give(ready.buffer)
        return Batch(views=made, label=label, index=index, epoch=epoch, step=step)

    def _derive(self, x: Tensor) -> Tensor:
        return x if self.derive == "stored" else views.derive(x, self.view, self.stream.dataset.layout)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A batch read ahead: clips, label, index and drawn parameters on the device, nothing applied yet.

    `buffer` is what the clips lie in, where that is not free for the next batch yet; `arrived` is when the
    copies to the device are done, where they may still be under way.
    """

    tensors: tuple[Tensor, Tensor, Tensor, dict[str, Any]]
    buffer: Tensor | None = None
    arrived: torch.cuda.Event | None = None


class _Source:
    """What the thread does: gather rows into a buffer, draw parameters, send both to the device."""

    def __init__(self, stream: Stream, view: str, recipe: Recipe, device: torch.device) -> None:
        self.stream, self.view, self.recipe, self.device = stream, view, recipe, device
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None
        rows = -(-stream.batch_size // stream.world)
        self.buffers = _Buffers((rows, *stream.dataset.shape), pinned=self.side is not None)

    def read(self, epoch: int, first: int) -> Iterator[_Ready]:
        """Yield the batches of `epoch` from step `first` on."""
        steps = len(self.stream)
        for start in range(first, steps, DRAWN_AT_ONCE):
            block = range(start, min(start + DRAWN_AT_ONCE, steps))
            rows = [self.stream.rows(epoch, step) for step in block]
            drawn = self._draw(epoch, np.concatenate(rows))
            ends = np.cumsum([len(r) for r in rows]).tolist()
            for step, low, high in zip(block, [0, *ends], ends, strict=False):
                buffer = self.buffers.take()
                batch = self.stream.batch(epoch, step, out={self.view: buffer.numpy()})
                label, index = torch.from_numpy(batch.label), torch.from_numpy(batch.index)
                tensors = buffer[: high - low], label, index, _map(itemgetter(slice(low, high)), drawn)
                yield _Ready(tensors, buffer) if self.device.type == "cpu" else self._send(tensors, buffer)

    def _draw(self, epoch: int, rows: NDArray[np.int64]) -> dict[str, Any]:
        """Draw every view's parameters for these rows."""
        index, shape = torch.from_numpy(rows), torch.Size((len(rows), *self.stream.dataset.shape))
        return {
            name: augmentation.sample(Draws(self.stream.seed, epoch, index, slot), shape)
            for slot, (name, augmentation) in enumerate(self.recipe.items())
            if augmentation is not None
        }

    def _send(self, tensors: tuple[Tensor, Tensor, Tensor, dict[str, Any]], buffer: Tensor) -> _Ready:
        """Copy to the device; with CUDA on a stream of its own, while the compute stream goes on."""
        with torch.cuda.stream(self.side):  # nothing where there is none
            sent = _map(lambda t: t.to(self.device, non_blocking=self.side is not None), tensors)
            arrived = None if self.side is None else self.side.record_event()
        self.buffers.give(buffer, arrived)
        return _Ready(sent, arrived=arrived)


class _Buffers:
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


def _keep_freed_memory() -> None:
    """Let glibc keep freed batches for the next ones instead of returning their pages to the system.

    It learns from the largest block freed so far, up to this size; without it the pages of two augmented
    views, freed and faulted in again each step, cost more than the augmentation. Nothing is written, so the
    block itself costs nothing.
    """
    torch.empty((32 << 20) - (16 << 10), dtype=torch.uint8)


def _usable(device: torch.device | str) -> torch.device:
    device = torch.device(device)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UsageError(f"the device {device} was asked for, but torch sees no CUDA device here")
    return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())


def _named(recipe: Recipe) -> dict[str, Augmentation | None]:
    """Check that every name of the recipe can be an attribute of a batch."""
    taken = {field.name for field in fields(Batch)}
    for name in recipe:
        if not name.isidentifier() or keyword.iskeyword(name) or name in taken or name.startswith("_"):
            raise UsageError(f"a view of a batch cannot be called {name!r}")
    return dict(recipe)


def _shares(x: Tensor, buffer: Tensor) -> bool:
    return x.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()


def _map(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Apply `function` to every tensor in nested dicts, lists and tuples."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: _map(function, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_map(function, value) for value in tree)
    return tree
