"""A subset as batches, epoch after epoch: the same global batches for any number of ranks, with exact resume."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from skelpipe.errors import DatasetError, UsageError
from skelpipe.front.arguments import given, whole_number
from skelpipe.front.descriptions import counted, described_safely, short_digest
from skelpipe.loader.batch import StreamBatch
from skelpipe.loader.epoch_order import epoch_order, epoch_plan, rank_share
from skelpipe.loader.position import Position
from skelpipe.loader.sampling import Sampling, balanced, weighted
from skelpipe.loader.shuffle_window import UpcomingShards, check_window, default_window

if TYPE_CHECKING:
    from skelpipe.dataset import Dataset
    from skelpipe.dataset.mapped_clips import MappedClips
    from skelpipe.loader.batch import Batch

__all__ = ["AUTO", "Stream", "StreamBatch", "epoch_order", "epoch_size"]

AUTO = "auto"

Clips = NDArray[np.float32]


def _collated(batch: Any, **_: Any) -> NoReturn:
    raise UsageError("a stream yields whole batches: give its DataLoader batch_size=None")


default_collate_fn_map[StreamBatch] = _collated


class Stream(IterableDataset[StreamBatch]):
    """Batches of one subset of a dataset, epoch after epoch.

    `batch_size` is the size of the global batch. Each of `world` ranks takes its own contiguous slice of it (sizes
    differ by one if `world` is no divisor). All ranks make the same number of steps, and global batch k holds the
    same samples for every `world`. Without `drop_last` the last batch of an epoch may be shorter, and a rank's
    slice of it is empty when fewer samples than ranks are left. Without `shuffle` every epoch is in row order.

    `window` is how many shards are shuffled together (see `epoch_order`), None for all. "auto" is None for a local
    dataset. For a remote one it is as many shards as fit together with the next window, and `load_state` takes the
    window of the state.

    An epoch has every clip once, unless the dataset is several with weights (see `skelpipe.dataset.joined`) or the
    sampling is `balanced`: then all classes come equally often (see `skelpipe.loader.sampling`), whatever the
    number of their clips. `count` is the number of clips of an epoch.

    The subset `train` is shuffled and drops a last, shorter batch; other subsets, for evaluation, are in row order
    and complete. `shuffle` and `drop_last` choose otherwise.

    Iterating yields the rest of the current epoch. A batch that was yielded counts as seen: the position is that
    of the next one. With the last batch of an epoch it is the start of the next epoch, whether or not anybody asks
    for more. So after a `break` a new iteration over `train` goes on with the next batch. Over an evaluation
    subset it begins with the first clip again, unless `seek` or `load_state` set the position since.

    `state()` is a few plain values; `load_state` continues from them at once, without reading earlier batches.
    `state_dict` and `load_state_dict` are the same under the names that programs for torch call.

    A stream is also a torch `IterableDataset`: `DataLoader(stream, batch_size=None, num_workers=n)` yields this
    rank's batches of an epoch in their order, each read by one of n worker processes, however these are started.
    With workers the DataLoader reads ahead, so the stream does not follow its batches: `state()` is then where the
    next iteration will begin, and `state(after=batch)` is what to save in the middle of an epoch. Each iteration
    over the DataLoader begins the next epoch, also after one that was left early; `load_state(state(after=batch))`
    lets it go on in that one. `seek` and `load_state` in the main process count for the next iteration, also with
    persistent_workers.
    """

    def __init__(
        self,
        dataset: "Dataset",
        subset: str,
        views: Sequence[str],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool | None = None,
        drop_last: bool | None = None,
        window: int | str | None = AUTO,
        rank: int = 0,
        world: int = 1,
        balanced: bool = False,
    ) -> None:
        """Open `views` of `subset`.

        Raises DatasetError when the subset is empty, and UsageError when the numbers do not fit together, the
        dataset lacks a view, or balanced sampling is not possible.
        """
        _check_kinds(dataset, views, window)
        seed = whole_number(seed, "seed")
        batch_size = whole_number(batch_size, "batch_size", 1)
        rank, world = whole_number(rank, "rank"), whole_number(world, "world", 1)
        if not 0 <= rank < world:
            raise UsageError(f"rank {rank} does not exist among {world} ranks (0 to {world - 1})")
        if batch_size < world:
            raise UsageError(f"a global batch of {batch_size} cannot be shared by {world} ranks")
        unknown = [view for view in views if view not in dataset.views]
        if unknown:
            raise UsageError(f"{dataset.path} has no view {unknown[0]!r}; it has {', '.join(dataset.views)}")
        if dataset.count(subset) == 0:
            raise DatasetError(f"{dataset.path}: the subset {subset!r} holds no samples")
        self._evaluates = subset != "train"
        shuffle = not self._evaluates if shuffle is None else shuffle
        drop_last = not self._evaluates if drop_last is None else drop_last
        self._clips, self.balanced = dataset.count(subset), balanced
        self.weights = weights_of(dataset) if shuffle else None
        self._sampling = _sampling(dataset, subset, balanced, shuffle)
        count = self._clips if self._sampling is None else self._sampling.count
        if drop_last and count < batch_size:
            raise UsageError(
                f"{dataset.path}: the subset {subset!r} holds {counted(count, 'sample')}, fewer than one batch of "
                f"{batch_size}; ask for a batch of at most {count}, or keep the last, shorter batch"
            )
        self.dataset, self.subset, self.views = dataset, subset, tuple(views)
        self.batch_size, self.seed, self.shuffle, self.drop_last = batch_size, seed, shuffle, drop_last
        self.rank, self.world, self.count = rank, world, count
        self._position = Position()
        self._left = False  # whether the position is that after a batch, not one that was set
        self._restored: tuple[int, int] | None = None  # in a worker: where its next iteration begins
        self._own: tuple[int, int] | None = None  # in a worker: epoch and step of its next batch
        self._sizes = np.asarray(dataset.shard_sizes(subset), dtype=np.int64)
        self._readers = {view: dataset.reader(subset, view) for view in self.views}
        self._remote = [rows for r in self._readers.values() if (rows := getattr(r, "remote", None)) is not None]
        self._chosen = window == AUTO
        self.window: int | None = None
        self._use_window((default_window(self._remote) if self._remote else None) if window == AUTO else window)

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        """The labels of all clips: read, or waited for, with the first batch."""
        return np.asarray(self.dataset.stored_labels(self.subset), dtype=np.int64)

    def _use_window(self, window: Any) -> None:
        """Set the window; UsageError where it does not fit."""
        if self._remote:
            check_window(self._remote, window)
        self.window = window
        self._order: tuple[int, NDArray[np.integer]] | None = None
        self._upcoming = UpcomingShards(
            self._remote,
            self.seed,
            self._sizes,
            window,
            shuffle=self.shuffle,
            sampled=None if self._sampling is None else self._sampled_sizes,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the same stream; a process of multiprocessing shares its position."""
        names = ("seed", "shuffle", "drop_last", "rank", "world", "balanced")
        options = {name: getattr(self, name) for name in names}
        arguments = (self.dataset, self.subset, self.views, self.batch_size)
        return _reopened, (type(self), arguments, options, self._chosen, self.window, self._position)

    @described_safely
    def __repr__(self) -> str:
        window = "all shards" if self.window is None else counted(self.window, "shard")
        order = f"shuffled over {window} with seed {self.seed}" if self.shuffle else "in row order"
        rank = f", rank {self.rank} of {self.world}" if self.world > 1 else ""
        data = self.dataset
        return (
            f"<{type(self).__name__} of {data.name}, split {data.split}, digest {short_digest(data.digest)}: "
            f"{self.subset}, views {', '.join(self.views)}, {counted(self.count, 'clip')} in "
            f"{counted(len(self), 'batch')} of "
            f"{self.batch_size}{rank}, {'class-balanced, ' if self.balanced else ''}{order}, "
            f"next is epoch {self.epoch}, step {self.step}>"
        )

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        return self._position.epoch

    @property
    def step(self) -> int:
        """The step of the next batch, from 0."""
        return self._position.step

    def __len__(self) -> int:
        """Return the steps of an epoch, the same on every rank."""
        return self.count // self.batch_size if self.drop_last else -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[StreamBatch]:
        """Yield the rest of the current epoch; in a worker of a DataLoader its share of the iteration's epoch."""
        worker = get_worker_info()
        if worker is None:
            return self._rest()
        iteration = worker.seed - worker.id
        if self._restored is None:
            epoch, first = self._position.begin(worker.id, iteration)
            self._own = epoch, first + worker.id
        else:
            self._own, self._restored = self._restored, None
            self._position.begin_in(self._own[0], worker.id, iteration)
        return self._share_of_worker(*self._own, worker.num_workers)

    def _rest(self) -> Iterator[StreamBatch]:
        epoch, first = self.begin()
        for step in range(first, len(self)):
            batch = self.batch(epoch, step)
            self.passed(epoch, step)
            yield batch

    def _share_of_worker(self, epoch: int, first: int, workers: int) -> Iterator[StreamBatch]:
        for step in range(first, len(self), workers):
            batch = self.batch(epoch, step)
            self._own = epoch, step + workers
            yield batch

    def begin(self) -> tuple[int, int]:
        """Return epoch and step of the first batch of an iteration that begins now."""
        if self._left and self._evaluates:
            self.seek(self.epoch, 0)
        return self.epoch, self.step

    def passed(self, epoch: int, step: int) -> None:
        """Note that a batch of an iteration is handed out.

        Raises DatasetError where, at the end of an epoch, a file was overwritten or removed since it was opened.
        """
        over = step + 1 == len(self)
        self._position.set(*((epoch + 1, 0) if over else (epoch, step + 1)))
        self._left = True
        if over:
            for reader in self._readers.values():
                if hasattr(reader, "confirm"):  # clips in memory have no files
                    reader.confirm()

    def batch(
        self,
        epoch: int,
        step: int,
        out: Mapping[str, Clips] | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> StreamBatch:
        """Read this rank's share of global batch `step` of `epoch`, without moving the stream.

        With `out`, only its views are read, into the first n rows of its arrays, which are returned instead of new
        ones. With `rows`, int64[n], these rows of the global batch are read instead of the rank's share.
        """
        rows = self.rows(epoch, step) if rows is None else rows
        if self._remote:
            first = step * self.batch_size
            self._upcoming.expect(epoch, first, min(first + self.batch_size, self.count))
        if out is None:
            views = {view: reader.gather(rows) for view, reader in self._readers.items()}
        else:
            views = {view: self._readers[view].gather(rows, out[view][: len(rows)]) for view in out}
        return StreamBatch(epoch=epoch, step=step, index=rows, label=self._labels[rows], views=views)

    def mapped(self, rows: NDArray[np.int64], view: str) -> "MappedClips | None":
        """Return these rows of a view as memory-mapped clips; None unless the dataset is local and float32."""
        return self._readers[view].mapped(rows)

    def rows(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Return the rows, int64[n], of this rank's share of global batch `step` of `epoch`."""
        found = self.occurrences(epoch, step)
        return found if self._sampling is None else self.rows_of(found)

    def rows_of(self, occurrences: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each occurrence, int64[n], a new array."""
        rows: NDArray[np.int64] = occurrences % self._clips
        return rows

    def occurrences(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Return the occurrences, int64[n], of this rank's share of global batch `step` of `epoch`.

        The occurrence of a clip is row + k * clips, where it came k times before in the epoch: its row in an epoch
        that has every clip once. Augmentations are drawn by it.
        """
        found = self.global_occurrences(epoch, step)
        own = self.share(len(found))
        return found[own.start : own.stop]

    def global_occurrences(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Return the occurrences, int64[N], of global batch `step` of `epoch`."""
        if not 0 <= step < len(self):
            raise UsageError(f"there is no step {step}: an epoch has {len(self)} steps")
        first = step * self.batch_size
        end = min(first + self.batch_size, self.count)
        if not self.shuffle:
            return np.arange(first, end, dtype=np.int64)
        order = self._order
        if order is None or order[0] != epoch:
            sampled = None if self._sampling is None else self._sampling.occurrences(self.seed, epoch)
            order = self._order = epoch, epoch_plan(self.seed, epoch, self._sizes, self.window, sampled)
        return order[1][first:end].astype(np.int64)

    def _sampled_sizes(self, epoch: int) -> NDArray[np.int64]:
        """Return how many clips of each shard an epoch has, int64[S]."""
        assert self._sampling is not None, "without sampling these are the sizes of the shards"
        rows = self.rows_of(self._sampling.occurrences(self.seed, epoch))
        shards = np.searchsorted(np.cumsum(self._sizes), rows, side="right")
        return np.bincount(shards, minlength=len(self._sizes)).astype(np.int64)

    def share(self, size: int) -> range:
        """Return the positions of this rank's share in a global batch of `size` samples."""
        return rank_share(size, self.rank, self.world)

    def seek(self, epoch: int, step: int) -> None:
        """Go to `step` of `epoch`. The step after the last is the first of the next epoch."""
        epoch, step = whole_number(epoch, "epoch"), whole_number(step, "step")
        if epoch < 0 or not 0 <= step <= len(self):
            raise UsageError(f"cannot go to epoch {epoch}, step {step}: an epoch has {len(self)} steps")
        self._position.set(*((epoch + 1, 0) if step == len(self) else (epoch, step)))
        self._left = False

    def state(self, after: "StreamBatch | Batch | None" = None) -> dict[str, Any]:
        """Return the state, which is the same on all ranks: `epoch` and `step` of the next batch, `seed`, the
        dataset's `digest`, and the settings that decide what the batches are.

        The next batch is that of the stream, or the one after the batch `after`.
        """
        if after is None:
            epoch, step = self.epoch, self.step
        elif not hasattr(after, "step"):
            raise UsageError(f"after is the batch that came last, not {given(after)}")
        else:
            last = after.step + 1 == len(self)
            epoch, step = (after.epoch + 1, 0) if last else (after.epoch, after.step + 1)
        return {"seed": self.seed, "epoch": epoch, "step": step, **self._identity()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, saved by any rank of any number of ranks.

        Raises DatasetError for a state of another dataset, UsageError for one with another seed or other settings,
        or an incomplete one; then the stream stays where it was.
        """
        window = self._checked(state)
        self.seek(state["epoch"], state["step"])
        if window != self.window:
            self._use_window(window)

    def state_dict(self) -> dict[str, Any]:
        """Return `state()`; in a worker of a DataLoader its own, whose next batch may be past the epoch."""
        if get_worker_info() is None or self._own is None:
            return self.state()
        epoch, step = self._own
        return {**self.state(), "epoch": epoch, "step": step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, as `load_state` does; in a worker of a DataLoader from the worker's own."""
        if get_worker_info() is None:
            self.load_state(state)
            return
        window = self._checked(state)
        self._restored = int(state["epoch"]), int(state["step"])
        if window != self.window:
            self._use_window(window)

    def _checked(self, state: Mapping[str, Any]) -> Any:
        """Return the window of a state that continues this stream; raise as `load_state` does for others."""
        if not isinstance(state, Mapping):
            raise UsageError(f"the state of a stream is what state() returned, not {given(state)}")
        missing = [key for key in ("seed", "epoch", "step", "digest") if key not in state]
        if missing:
            raise UsageError(f"this is not the state of a stream: it lacks {', '.join(missing)}")
        if state["digest"] != self.dataset.digest:
            raise DatasetError(
                f"the state was saved on the dataset with digest {state['digest']}, but {self.dataset.path} "
                f"has {self.dataset.digest}; resume on the same dataset, or start anew"
            )
        mine = {"seed": self.seed, **self._identity()}
        window = state.get("window")
        if self._chosen and (window is None or isinstance(window, int)):
            mine["window"] = window
        sampling = {"balanced": False, "weights": None}  # where a state, or this stream, does not name them
        saved, mine = {**sampling, **state}, {**sampling, **mine}
        other = [f"{key} {saved[key]}, here {mine[key]}" for key in mine if saved.get(key, mine[key]) != mine[key]]
        if other:
            raise UsageError(
                f"the state does not continue this stream: it was saved with {'; '.join(other)}. "
                f"Resume with the same settings, or start anew"
            )
        if self._remote:
            check_window(self._remote, mine["window"])
        return mine["window"]

    def _identity(self) -> dict[str, Any]:
        return {
            "digest": self.dataset.digest,
            "split": self.subset,
            "batch_size": self.batch_size,
            "window": self.window,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            **({"balanced": True} if self.balanced else {}),
            **({"weights": list(self.weights)} if self.weights else {}),
        }


def _check_kinds(dataset: Any, views: Any, window: Any) -> None:
    """Raise UsageError for arguments that are another thing."""
    if isinstance(dataset, type) or not hasattr(dataset, "shard_sizes"):
        path = dataset if isinstance(dataset, str | PathLike) else "data/ntu60-xsub"
        raise UsageError(f"a stream reads a dataset, Dataset.open({str(path)!r}), not {given(dataset)}")
    if not isinstance(views, Sequence) or isinstance(views, str):
        known = f"one or several of {', '.join(dataset.views)}"
        example = f"[{views!r}]" if isinstance(views, str) else "['joint']"
        raise UsageError(f"the views of a stream are a list, such as {example}, of {known}, not {given(views)}")
    if not views:
        raise UsageError(
            f"the views of a stream are one or several of {', '.join(dataset.views)}, and none is given"
        )
    if window not in (None, AUTO) and (isinstance(window, str | float | bool) or window < 1):
        raise UsageError(f"the shuffle window is {window} shards; it must be at least 1, or None for all")


def epoch_size(dataset: "Dataset", subset: str, balanced: bool = False) -> int:
    """Return how many clips an epoch of a shuffled stream has; UsageError where a weight leaves none of a part."""
    sampling = _sampling(dataset, subset, balanced, shuffle=True)
    return dataset.count(subset) if sampling is None else sampling.count


def weights_of(dataset: "Dataset") -> tuple[float, ...] | None:
    """Return the weight of each dataset that this one consists of; None where all are 1."""
    weights = getattr(dataset, "weights", None)
    return None if weights is None or all(weight == 1 for weight in weights) else tuple(weights)


def _sampling(dataset: "Dataset", subset: str, by_class: bool, shuffle: bool) -> Sampling | None:
    weights = weights_of(dataset)
    if by_class and weights is not None:
        raise UsageError("either classes are balanced or datasets have weights, not both")
    if by_class and not shuffle:
        raise UsageError("class-balanced sampling has an order of its own: it needs shuffle=True")
    if by_class:
        return balanced(np.asarray(dataset.labels(subset), dtype=np.int64))
    if weights is None or not shuffle:
        return None
    return weighted(dataset.part_counts(subset), weights)  # type: ignore[attr-defined]


def _reopened(
    kind: type[Stream],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    chosen: bool,
    window: int | None,
    position: Position,
) -> Stream:
    stream = kind(*arguments, **options, window=AUTO if chosen else window)
    if stream.window != window:
        stream._use_window(window)
    stream._position = position
    return stream
