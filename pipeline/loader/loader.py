"""Batches on the training device: clips are read ahead on a thread, views are augmented on the device."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skelpipe import views
from skelpipe.augment.donor import DONOR
from skelpipe.errors import UsageError
from skelpipe.front.arguments import given, whole_number
from skelpipe.front.descriptions import described_safely
from skelpipe.loader.batch import NOT_VIEWS, Batch
from skelpipe.loader.cross_rank_donors import RankShares
from skelpipe.loader.nested import map_tensors
from skelpipe.loader.prefetch import Prefetch
from skelpipe.loader.read_ahead import ClipSource, MappedReader, ReadAhead, Ready, shares_memory
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Augmentation, BatchInProgress, ViewRecipes, described, view_recipes
from skelpipe.loader.views_together import make_views
from skelpipe.mapped_files import reading
from skelpipe.memory import keep_freed_memory

__all__ = ["CLIP_READERS", "Augmentation", "Batch", "Loader"]

CLIP_READERS = ("native", "dali", "webdataset")


class Loader:
    """Batches of `stream` on `device`, with each view of the recipe augmented by its own random draws.

    `recipe` maps the name of each view to how it is made: an augmentation of the clips read, None for the clips as
    they are (all such views share one tensor), or `On` or `Mats`, which use earlier views. View number i draws
    from `Draws(seed, epoch, index, slot=i)`: what a sample gets depends neither on the other samples, nor on the
    rank, nor on `prefetch`. What the samples of a batch share, such as the region that is mixed, follows from the
    number of the global batch and is the same on all ranks. Donors are clips of the global batch (see
    `cross_rank_donors`).

    `view` is the stream that all views show. With derive="after" the joint stream is read and augmented, and
    `view` is derived from the result; with derive="stored" the shards of `view` itself are read and augmented.
    `reader` chooses what reads the clips, without an effect on the batches: "native" gathers from memory-mapped
    shards, "dali" lets NVIDIA DALI read the tars (see `skelpipe.loader.dali`), "webdataset" the library of that
    name (see `skelpipe.loader.web_clips`).

    Views are made when their batch is handed out. On a CPU, if the first operation of every view mixes axes, it
    reads the memory-mapped clips directly; otherwise the reading thread makes some views ahead while the consumer
    is slower.

    Iterating yields the rest of the current epoch; the next epoch is already read ahead if clips are
    memory-mapped. The position, and so `state()`, is that of the stream: it counts batches handed out, not batches
    read ahead, and with the last batch of an epoch it is the start of the next. `Stream` says what follows after a
    `break`. Use a loader from one thread only; a new iteration ends the one before.
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
        tell: Callable[[Tensor, Tensor], object] | None = None,
    ) -> None:
        """Keep at most `prefetch` batches of clips ready in memory.

        On another device than a CPU `tell(view, present)` is called with every view of which the host knows bodies
        that are absent: `present` is bool [n, M] on the host, and bodies that are not are zeros throughout.

        Raises UsageError when the arguments do not fit, and what `skelpipe.loader.dali.DaliClips` raises with
        reader="dali".
        """
        if not isinstance(stream, Stream):
            raise UsageError(
                f"a loader reads a stream, such as Stream(dataset, 'train', ['joint'], 128), not {given(stream)}"
            )
        if derive not in ("after", "stored"):
            raise UsageError(f"derive is 'after' or 'stored', not {derive!r}")
        if view not in views.VIEWS:
            raise UsageError(f"there is no view {view!r}; there are: {', '.join(views.VIEWS)}")
        prefetch = whole_number(prefetch, "prefetch", 1)
        source = "joint" if derive == "after" else view
        if source not in stream.views:
            raise UsageError(
                f"derive={derive!r} of the view {view!r} reads the stream {source!r}, "
                f"but only {', '.join(stream.views)} is opened"
            )
        self._arguments = stream, device, recipe, derive, view, prefetch, reader, tell
        self.stream, self.device, self.recipe = stream, _usable(device), view_recipes(recipe, NOT_VIEWS)
        self.derive, self.view, self.prefetch = derive, view, prefetch
        shares = RankShares(stream, self.recipe)
        clips = _clips(reader, stream, source, self.device, shares)
        self._derive: Callable[[Tensor], Tensor] = _unchanged
        if derive == "after":
            self._derive = partial(views.derive, view=view, layout=stream.dataset.layout)
        self._source = ReadAhead(
            stream, clips, self.recipe, shares, self.device, self._derive, looks=tell is not None
        )
        self._tell = tell
        self._ahead: Prefetch[deque[Ready]] | None = None
        self._next: tuple[int, int] | None = None  # epoch and step at which the thread goes on after an epoch
        if self.device.type == "cpu":
            keep_freed_memory()

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process make the same loader, if its recipe can be pickled; nothing is read ahead in it."""
        return _made_anew, self._arguments

    @described_safely
    def __repr__(self) -> str:
        how = "derived from augmented joints" if self.derive == "after" else "as stored, augmented"
        lines = [f"<Loader on {self.device}, view {self.view} ({how}), of {self.stream!r}>"]
        lines += [f"  {name}: {described(recipe)}" for name, recipe in self.recipe.items()]
        return "\n".join(lines)

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return len(self.stream)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch.

        An error of the reading thread is raised here in place of its batch.
        """
        stream, source = self.stream, self._source
        epoch, first = stream.begin()
        ahead, steps = self._started(epoch, first), len(stream)
        waiting: deque[Ready] | None = None
        reads_on = False
        try:
            for step in range(first, steps):
                waiting = waiting or next(ahead, None)
                if waiting is None or self._ahead is not ahead:
                    raise RuntimeError("the loader was closed, or started anew, while this iteration ran")
                batch = self._finish(waiting.popleft(), epoch, step)
                stream.passed(epoch, step)
                if step + 1 == steps and self._ahead is ahead and source.reads_mapped:
                    # Before the last batch is yielded: nobody may ask for more.
                    reads_on, self._next = True, (epoch + 1, 0)
                yield batch
                del batch  # the next one may then take its memory, which is still in the cache
        finally:
            if not reads_on:
                ahead.close()

    def __getitem__(self, index: object) -> Batch:
        """Say what to do instead: torch's DataLoader asks for items of what is no IterableDataset."""
        raise UsageError(
            "a Loader is iterated itself: its batches are made on its device; torch's DataLoader takes its stream,"
            " DataLoader(loader.stream, batch_size=None), or dataset.samples(subset, view)"
        )

    def _started(self, epoch: int, first: int) -> Prefetch[deque[Ready]]:
        """Return the batches from step `first` of `epoch` on: of a new thread, or of the one that read on."""
        ahead = self._ahead
        if ahead is None or self._next != (epoch, first):
            self.close()
            source = self._source
            depth = 1 if source.reads_mapped else self.prefetch  # a block of batches, or batches
            ahead = Prefetch(lambda idle: source.read(epoch, first, idle), depth, "skelpipe-loader")
        self._ahead, self._next = ahead, None
        return ahead

    def close(self) -> None:
        """End the running iteration and the thread that reads ahead, if any; a new iteration may begin."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = self._next = None

    def state(self) -> dict[str, Any]:
        """Return the state of the stream: the position after the batches handed out so far."""
        return self.stream.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, as `Stream.load_state` does; a running iteration ends."""
        self.close()
        self.stream.load_state(state)

    def state_dict(self) -> dict[str, Any]:
        """Return `state()`: the name by which programs for torch ask."""
        return self.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, as `load_state` does."""
        self.load_state(state)

    def _finish(self, ready: Ready, epoch: int, step: int) -> Batch:
        """Augment and derive the views on the device's current stream."""
        clips = ready.clips
        label, index, positions, *_, own, _ = ready.drawn
        if ready.arrived is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(ready.arrived)
            map_tensors(lambda t: t.record_stream(current), (clips, ready.drawn))
        batch = self._made(ready) if isinstance(clips, Tensor) else reading(partial(self._made, ready))
        if positions is not None:
            batch, label, index = batch.first(own), label[:own], index[:own]
        made = {name: view.clip for name, view in batch.made.items()}
        extras = {
            f"{name}_{key}": x if positions is None or key != DONOR else positions[x]
            for name, view in batch.made.items()
            for key, x in view.extras.items()
        }
        if self._tell is not None and ready.present is not None:
            for name, clip in made.items():
                if getattr(self.recipe[name], "keeps_absent", False):
                    self._tell(clip, ready.present[: len(clip)])
        if ready.buffer is not None:
            handed_out = (*made.values(), *extras.values())
            if not any(shares_memory(x, ready.buffer) for x in handed_out):
                self._source.buffers.give(ready.buffer)
        return Batch(views=made, label=label, index=index, epoch=epoch, step=step, extras=extras)

    def _made(self, ready: Ready) -> BatchInProgress:
        """Make all views of a batch."""
        batch = BatchInProgress(ready.clips, self._derive)
        with torch.no_grad():
            if ready.drawn.positions is None:  # no view needs clips of other ranks
                batch.made.update(ready.made)
                make_views(self.recipe, batch, ready.parts())
                return batch
            for name, recipe in self.recipe.items():
                batch.made[name] = ready.made.get(name) or ready.make(name, recipe, batch)
        return batch


def _made_anew(
    stream: Stream,
    device: torch.device | str,
    recipe: ViewRecipes,
    derive: str,
    view: str,
    prefetch: int,
    reader: str,
    tell: Callable[[Tensor, Tensor], object] | None,
) -> Loader:
    return Loader(stream, device, recipe, derive=derive, view=view, prefetch=prefetch, reader=reader, tell=tell)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _clips(reader: str, stream: Stream, view: str, device: torch.device, shares: RankShares) -> ClipSource:
    if reader == "native":
        return MappedReader(stream, view)
    if reader == "dali":
        from skelpipe.loader.dali import DaliClips

        return DaliClips(stream, view, device, shares.rows)
    if reader == "webdataset":
        from skelpipe.loader.web_clips import WebClips

        return WebClips(stream, view)
    raise UsageError(f"there is no reader {reader!r}; there are: {', '.join(CLIP_READERS)}")


def _usable(device: torch.device | str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError):
        raise UsageError(f"there is no device {given(device)}; choose auto, cpu, cuda or cuda:N") from None
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UsageError(f"the device {device} was asked for, but torch sees no CUDA device here")
    if device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    if device.index >= (count := torch.cuda.device_count()):
        raise UsageError(f"the device {device} was asked for, but torch sees {count} here, counted from 0")
    return device
