"""A subset as batches, epoch after epoch: the same global batches for any number of ranks, with exact resume."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skelpipe.errors import DatasetError, UsageError
from skelpipe.loader.epoch_order import epoch_order, rank_share
from skelpipe.loader.shuffle_window import UpcomingShards, check_window, default_window

if TYPE_CHECKING:
    from skelpipe.dataset import Dataset
    from skelpipe.dataset.mapped_clips import MappedClips

__all__ = ["AUTO", "Stream", "StreamBatch", "epoch_order"]

AUTO = "auto"

Clips = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """One rank's share of one global batch: n samples.

    `index` int64[n] is each sample's row in the subset, `label` int64[n] its class, `views` maps a view's
    name to float32[n,C,T,V,M].
    """

    epoch: int
    step: int
    index: NDArray[np.int64]
    label: NDArray[np.int64]
    views: dict[str, Clips]


class Stream:
    """Batches of one subset of a dataset, epoch after epoch.

    `batch_size` is the size of the global batch. Each of `world` ranks takes its own contiguous slice of it (sizes
    differ by one if `world` is no divisor). All ranks make the same number of steps, and global batch k holds the
    same samples for every `world`. Without `drop_last` the last batch of an epoch may be shorter, and a rank's
    slice of it is empty when fewer samples than ranks are left. Without `shuffle` every epoch is in row order.

    `window` is how many shards are shuffled together (see `epoch_order`), None for all. "auto" is None for a local
    dataset. For a remote one it is as many shards as fit together with the next window, and `load_state` takes the
    window of the state.

    Iterating yields the rest of the current epoch, then moves to the next epoch. `state()` is a few plain values;
    `load_state` continues from them at once, without reading earlier batches.
    """

    def __init__(
        self,
        dataset: "Dataset",
        subset: str,
        views: Sequence[str],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        window: int | str | None = AUTO,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Open `views` of `subset`.

        Raises DatasetError when the subset is empty, and UsageError when the numbers do not fit together
        or the dataset lacks a view.
        """
        if not 0 <= rank < world:
            raise UsageError(f"rank {rank} does not exist among {world} ranks (0 to {world - 1})")
        if batch_size < world:
            raise UsageError(f"a global batch of {batch_size} cannot be shared by {world} ranks")
        if window not in (None, AUTO) and (isinstance(window, str) or window < 1):
            raise UsageError(f"the shuffle window is {window} shards; it must be at least 1, or None for all")
        unknown = [view for view in views if view not in dataset.views]
        if unknown:
            raise UsageError(f"{dataset.path} has no view {unknown[0]!r}; it has {', '.join(dataset.views)}")
        count = dataset.count(subset)
        if count == 0:
            raise DatasetError(f"{dataset.path}: the subset {subset!r} holds no samples")
        if drop_last and count < batch_size:
            raise UsageError(
                f"{dataset.path}: the subset {subset!r} holds {count} samples, fewer than one batch of "
                f"{batch_size}; ask for a batch of at most {count}, or keep the last, shorter batch"
            )
        self.dataset, self.subset, self.views = dataset, subset, tuple(views)
        self.batch_size, self.seed, self.shuffle, self.drop_last = batch_size, seed, shuffle, drop_last
        self.rank, self.world, self.count = rank, world, count
        self.epoch = self.step = 0
        self._sizes = np.asarray(dataset.shard_sizes(subset), dtype=np.int64)
        self._labels = np.asarray(dataset.stored_labels(subset), dtype=np.int64)
        self._readers = {view: dataset.reader(subset, view) for view in self.views}
        self._remote = [rows for r in self._readers.values() if (rows := getattr(r, "remote", None)) is not None]
        self._chosen = window == AUTO
        self.window: int | None = None
        self._use_window((default_window(self._remote) if self._remote else None) if window == AUTO else window)

    def _use_window(self, window: Any) -> None:
        """Set the window; UsageError where it does not fit."""
        if self._remote:
            check_window(self._remote, window)
        self.window = window
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._upcoming = UpcomingShards(self._remote, self.seed, self._sizes, window, shuffle=self.shuffle)

    def __len__(self) -> int:
        """Return the steps of an epoch, the same on every rank."""
        return self.count // self.batch_size if self.drop_last else -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[StreamBatch]:
        """Yield the rest of the current epoch, then move to the start of the next."""
        epoch = self.epoch
        for step in range(self.step, len(self)):
            batch = self.batch(epoch, step)
            self.seek(epoch, step + 1)
            yield batch
        self.seek(epoch + 1, 0)

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
        rows = self.global_rows(epoch, step)
        own = self.share(len(rows))
        return rows[own.start : own.stop].copy()

    def global_rows(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Return the rows, int64[N], of global batch `step` of `epoch`; the caller must not change them."""
        if not 0 <= step < len(self):
            raise UsageError(f"there is no step {step}: an epoch has {len(self)} steps")
        first = step * self.batch_size
        end = min(first + self.batch_size, self.count)
        if not self.shuffle:
            return np.arange(first, end, dtype=np.int64)
        order = self._order
        if order is None or order[0] != epoch:
            order = self._order = epoch, epoch_order(self.seed, epoch, self._sizes, self.window)
        return order[1][first:end]

    def share(self, size: int) -> range:
        """Return the positions of this rank's share in a global batch of `size` samples."""
        return rank_share(size, self.rank, self.world)

    def seek(self, epoch: int, step: int) -> None:
        """Go to `step` of `epoch`. The step after the last is allowed: then nothing of the epoch is left."""
        if epoch < 0 or not 0 <= step <= len(self):
            raise UsageError(f"cannot go to epoch {epoch}, step {step}: an epoch has {len(self)} steps")
        self.epoch, self.step = epoch, step

    def state(self) -> dict[str, Any]:
        """Return the state, which is the same on all ranks: `epoch` and `step` of the next batch, `seed`, the
        dataset's `digest`, and the settings that decide what the batches are."""
        return {"seed": self.seed, "epoch": self.epoch, "step": self.step, **self._identity()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, saved by any rank of any number of ranks.

        Raises DatasetError for a state of another dataset, UsageError for one with another seed or other settings,
        or an incomplete one; then the stream stays where it was.
        """
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
        other = [f"{key} {state[key]}, here {mine[key]}" for key in mine if state.get(key, mine[key]) != mine[key]]
        if other:
            raise UsageError(
                f"the state does not continue this stream: it was saved with {'; '.join(other)}. "
                f"Resume with the same settings, or start anew"
            )
        if self._remote:
            check_window(self._remote, mine["window"])
        self.seek(int(state["epoch"]), int(state["step"]))
        if mine["window"] != self.window:
            self._use_window(mine["window"])

    def _identity(self) -> dict[str, Any]:
        return {
            "digest": self.dataset.digest,
            "split": self.subset,
            "batch_size": self.batch_size,
            "window": self.window,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }
