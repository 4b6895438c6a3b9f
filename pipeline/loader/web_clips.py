"""Webdataset, the library, as a reader of clips: whole shards in the order of the epoch, a window at a time.

The order is the stream's: rows are shuffled within a window of shards whose clips are held in memory. Each rank
reads all shards of a window.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.dataset.web_rows import WebRows, shards_at_once
from skelpipe.loader.stream import Stream

__all__ = ["WebClips", "web_window"]


def web_window(dataset: Dataset, subset: str) -> int | None:
    """Return how many shards are shuffled together; None if the clips of all of them fit into memory."""
    return shards_at_once(dataset.shard_sizes(subset), dataset.shape)


class WebClips:
    """A ClipSource of one view of a stream that is read by webdataset."""

    device = torch.device("cpu")

    def __init__(self, stream: Stream, view: str) -> None:
        """Raises DatasetError where the dataset has no shards."""
        dataset, subset = stream.dataset, stream.subset
        dataset.webdataset(subset, view)  # raises now, not on a thread
        samples = partial(_samples, dataset, subset, view)
        self._rows = WebRows(samples, dataset.shard_sizes(subset), dataset.shape, view, stream.window)

    def read(self, epoch: int, step: int, rows: NDArray[np.int64], out: Tensor) -> None:
        """Write the clips of `rows` into `out`, float32 [n,C,T,V,M]; read the shards that are not held."""
        self._rows.gather(rows, out.numpy())

    def mapped(self, rows: np.ndarray) -> None:
        """Return None: a tar that is read from first to last is not mapped."""

    def close(self) -> None:
        """Keep what is held: the next epoch may begin with it."""


def _samples(dataset: Dataset, subset: str, view: str, shards: Sequence[int]) -> Iterable[dict[str, Any]]:
    return dataset.webdataset(subset, view, shards=shards)
