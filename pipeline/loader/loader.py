"""Batches on the training device: rows gathered ahead on a thread, views augmented on the device."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skelpipe import views
from skelpipe.augment.donor import DONOR
from skelpipe.errors import UsageError
from skelpipe.loader.cross_rank_donors import RankShares
from skelpipe.loader.nested import map_tensors
from skelpipe.loader.prefetch import Prefetch
from skelpipe.loader.read_ahead import DRAWN_AT_ONCE, ClipSource, MappedReader, ReadAhead, Ready, shares
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Augmentation, BatchInProgress, ViewRecipes, view_recipes
from skelpipe.memory import keep_freed_memory

__all__ = ["READERS", "Augmentation", "Batch", "Loader"]

READERS = ("native", "dali")


@dataclass(frozen=True)
class Batch:
    """n samples on the device. `views` maps each name of the recipe to float32[n,C,T,V,M]; `extras` holds what
    came with them, such as the mask and the donors of the view `mixed` as `mixed_mask` and `mixed_donor`. Donors
    are places in the global batch, of which these samples are one rank's share. Names of both are attributes too
    (`batch.query`, `batch.mixed_donor`). `label` and `index` (the row in the split) are int64[n]."""

    views: dict[str, Tensor]
    label: Tensor
    index: Tensor
    epoch: int
    step: int
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Tensor:
        for kind in ("views", "extras"):
            if name in (held := self.__dict__.get(kind, {})):
                tensor: Tensor = held[name]
                return tensor
        raise AttributeError(f"the batch has no view {name!r}")

    def __len__(self) -> int:
        return len(self.label)


BATCH = tuple(f.name for f in fields(Batch))


class Loader:
    """Hand out the batches of `stream` on `device`, each view of the recipe augmented by draws of its own.

    `recipe` maps the names of a batch's views to how they are made: an augmentation of the clips read, None for
    the clips as they are (all such views share one tensor), or `On` and `Mats`, which start from views above
    them. View number i draws from `Draws(seed, epoch, index, slot=i)`: neither the rest of the batch, nor the
    rank, nor `prefetch` changes what a sample gets. What a batch has in common, such as the region that is
    mixed, follows from the number of the global batch, the same on all ranks; donors are clips of the global
    batch (see `cross_rank_donors`). `view` is what all views show: with derive="after" the joint stream
    is read, augmented, and `view` derived from the result; with derive="stored" the view's own stream is read
    and augmented. `reader` is who reads the clips, with the same batches as the result: "native" gathers them
    from memory-mapped shards, "dali" has NVIDIA DALI read the tars (see `skelpipe.loader.dali`).

    Views are augmented when their batch is handed out. On a CPU those that begin by mixing axes read the clips
    where they are stored; of other clips the reading thread makes some views before, while the consumer is the
    slower of the two.

    Iterating yields the rest of the current epoch, then moves to the next epoch, into which clips in memory maps
    are read on meanwhile. The position, and with it `state()`, is that of the stream and counts batches handed
    out, not those read ahead. A loader belongs to one thread; a new iteration ends the one before it.
    """

    def __init__(
        self,
        stream: Stream,
        device: torch.device | str,
        recipe: ViewRecipes,
        *,
        derive: str = "after",
        view: str = "joint",
        prefetch: int = 2,
        reader: str = "native",
    ) -> None:
        """Keep at most `prefetch` batches of clips in memory ready.

        Raises UsageError when the arguments do not fit, and what `skelpipe.loader.dali.DaliClips` raises with
        reader="dali".
        """
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
        self.stream, self.device, self.recipe = stream, _usable(device), view_recipes(recipe, BATCH)
        self.derive, self.view, self.prefetch = derive, view, prefetch
        parts = RankShares(stream, self.recipe)
        clips = _clips(reader, stream, source, self.device, parts)
        self._derive: Callable[[Tensor], Tensor] = _unchanged
        if derive == "after":
            self._derive = partial(views.derive, view=view, layout=stream.dataset.layout)
        self._source = ReadAhead(stream, clips, self.recipe, parts, self.device, self._derive)
        self._ahead: Prefetch[Ready] | None = None
        self._next: tuple[int, int] | None = None  # epoch and step that it waits for between two iterations
        if self.device.type == "cpu":
            keep_freed_memory()

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return len(self.stream)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch, then move to the start of the next.

        An error of the reading thread is raised here, when its batch's turn has come.
        """
        stream, source = self.stream, self._source
        epoch, first = stream.epoch, stream.step
        ahead = self._started(epoch, first)
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
            if self._ahead is ahead and source.stored:
                self._next = epoch + 1, 0
        finally:
            if self._next is None:
                ahead.close()

    def _started(self, epoch: int, first: int) -> Prefetch[Ready]:
        """Return what reads ahead from step `first` of `epoch` on: new, or what went on after the epoch before."""
        ahead = self._ahead
        if ahead is None or self._next != (epoch, first):
            self.close()
            source = self._source
            # What stays stored takes no memory while it is ready.
            room = (DRAWN_AT_ONCE, DRAWN_AT_ONCE // 2) if source.stored else (self.prefetch, None)
            ahead = Prefetch(lambda idle: source.read(epoch, first, idle), room[0], "skelpipe-loader", room[1])
        self._ahead, self._next = ahead, None
        return ahead

    def close(self) -> None:
        """End the running iteration and the thread that reads ahead, if there are any; another may begin."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = self._next = None

    def state(self) -> dict[str, Any]:
        """Return the state of the stream: where the batches handed out so far end."""
        return self.stream.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, as `Stream.load_state` does; a running iteration ends."""
        self.close()
        self.stream.load_state(state)

    def _finish(self, ready: Ready, epoch: int, step: int) -> Batch:
        """Augment and derive the views on the device's current stream."""
        clips = ready.clips
        label, index, places = ready.told()
        if ready.arrived is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(ready.arrived)
            map_tensors(lambda t: t.record_stream(current), (clips, ready.drawn))
        scene = BatchInProgress(clips, self._derive)
        with torch.no_grad():
            for name, entry in self.recipe.items():
                scene.made[name] = ready.made.get(name) or ready.make(name, entry, scene)
        if places is not None:
            scene = scene.first(ready.own)
        made = {name: view.clip for name, view in scene.made.items()}
        extras = {
            f"{name}_{key}": x if places is None or key != DONOR else places[x]
            for name, view in scene.made.items()
            for key, x in view.extras.items()
        }
        handed_out = (*made.values(), *extras.values())
        if ready.buffer is not None and not any(shares(x, ready.buffer) for x in handed_out):
            self._source.buffers.give(ready.buffer)
        return Batch(views=made, label=label, index=index, epoch=epoch, step=step, extras=extras)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _clips(reader: str, stream: Stream, view: str, device: torch.device, parts: RankShares) -> ClipSource:
    if reader == "native":
        return MappedReader(stream, view)
    if reader == "dali":
        from skelpipe.loader.dali import DaliClips

        return DaliClips(stream, view, device, parts.rows)
    raise UsageError(f"there is no reader {reader!r}; there are: {', '.join(READERS)}")


def _usable(device: torch.device | str) -> torch.device:
    device = torch.device(device)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UsageError(f"the device {device} was asked for, but torch sees no CUDA device here")
    return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())
