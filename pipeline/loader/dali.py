"""NVIDIA DALI as a second reader of the tar shards, for the same batches in the same order.

Left to itself DALI reads a shard from first to last and shuffles in a buffer, among rows that lie close together.
Here it is told the rows one by one, in the stream's order (see `dali_index`), so that epochs, ranks, last batches
and resuming are those of the stream.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from skelpipe.dataset.tar_shard import NPY_DATA, Geometry
from skelpipe.errors import DatasetError, UsageError
from skelpipe.loader.dali_index import RowIndices
from skelpipe.loader.stream import Stream

__all__ = ["DaliClips"]

# DALI opens all rows of a pipeline before it reads the first, some 15 us each. So an epoch goes in pieces, and the
# next is opened while one is read. A row counts as a mapped file, of which DALI takes half of what Linux allows.
ROWS_AT_ONCE = 4096
QUEUE = 2  # batches that DALI has ready or in work


class DaliClips:
    """The clips of one view of a stream, read by DALI into memory of the CPU or of a GPU."""

    def __init__(
        self, stream: Stream, view: str, device: torch.device, rows: Callable[[int, int], NDArray[np.int64]]
    ) -> None:
        """Read what `rows` returns of an epoch and a step, any number of rows at each.

        Raises UsageError without the `dali` extra, DatasetError where tars or their indices are missing."""
        _require_dali()
        dataset = stream.dataset
        if "shards" not in dataset.card["formats"]:
            raise DatasetError(
                f"{dataset.path}: holds its clips in HDF5 files only, and DALI reads tar shards: prepare it with "
                f"--format shards or both, or read it without DALI"
            )
        self.device = device if device.type == "cuda" else torch.device("cpu")
        self._stream, self._rows = stream, rows
        self._geometry = dataset.geometry(view)
        self._indices = RowIndices(dataset, stream.subset, view)
        self._starts = np.concatenate([[0], np.cumsum(dataset.shard_sizes(stream.subset))]).astype(np.int64)
        self._running: _Piece | None = None
        self._next: _Piece | None = None

    def read(self, epoch: int, step: int, rows: NDArray[np.int64], out: Tensor) -> None:
        """Write the clips of this step, `rows`, into `out`, float32[n,C,T,V,M] on the device, whole on return.

        Steps in their order follow at once; any other step begins anew. Raises DatasetError where DALI fails.
        """
        if not len(out):
            return
        try:
            piece = self._piece(epoch, step)
            piece.read(out)
            if self._next is None:
                self._next = self._open(epoch, piece.end)
        except RuntimeError as error:
            self.close()
            raise DatasetError(f"{self._stream.dataset.path}: DALI cannot read it: {_reason(error)}") from None

    def mapped(self, rows: np.ndarray) -> None:
        """Return None: DALI has the clips read into memory."""

    def close(self) -> None:
        """End DALI's threads."""
        self._running = self._next = None

    def _piece(self, epoch: int, step: int) -> "_Piece":
        """Return the piece whose next step is this one."""
        if self._running is None or not self._running.is_at(epoch, step):
            self._running, self._next = self._next, None
        if self._running is None or not self._running.is_at(epoch, step):
            self._running = self._open(epoch, step)
        assert self._running is not None, "the step has rows"
        return self._running

    def _open(self, epoch: int, first: int) -> "_Piece | None":
        """Have DALI begin to read from step `first` on: as many rows at each, the last ones again if need be."""
        parts: list[NDArray[np.int64]] = []
        most = 0
        for step in range(first, len(self._stream)):
            part = self._rows(epoch, step)
            if not len(part) or (parts and max(most, len(part)) * len(parts) >= ROWS_AT_ONCE):
                break
            parts.append(part)
            most = max(most, len(part))
        if not parts:
            return None
        rows = np.concatenate([np.pad(part, (0, most - len(part)), "edge") for part in parts])
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        pipeline = _pipeline(
            [self._indices.tars[shard] for shard in shards.tolist()],
            self._indices.paths(rows - self._starts[shards]),
            self._geometry,
            most,
            min(QUEUE, len(parts)),
            self.device,
        )
        return _Piece(pipeline, self._geometry, epoch, range(first, first + len(parts)))


class _Piece:
    """Steps of an epoch that one pipeline reads."""

    def __init__(self, pipeline: Any, geometry: Geometry, epoch: int, steps: range) -> None:
        self.end = steps.stop
        self._pipeline, self._geometry = pipeline, geometry
        self._epoch, self._step = epoch, steps.start
        self._asked = steps.start + pipeline.prefetch_queue_depth
        pipeline.schedule_run()  # fills the queue, on DALI's own threads

    def is_at(self, epoch: int, step: int) -> bool:
        return (epoch, step) == (self._epoch, self._step) and step < self.end

    def read(self, out: Tensor) -> None:
        """Write the next step's clips into `out`."""
        (npy,) = self._pipeline.share_outputs()
        offset = self._geometry.data_offset - NPY_DATA
        files = from_dlpack(npy.as_tensor())  # uint8 [n, bytes of a .npy file]
        numbers = files[:, offset:].view(getattr(torch, self._geometry.dtype))
        out.copy_(numbers.view(-1, *out.shape[1:])[: len(out)])
        if out.is_cuda:
            torch.cuda.current_stream(out.device).synchronize()  # DALI may use the memory again
        self._pipeline.release_outputs()
        self._step += 1
        if self._asked < self.end:
            self._asked += 1
            self._pipeline.schedule_run()


def _pipeline(
    tars: Sequence[str], indices: Sequence[str], geometry: Geometry, batch: int, queue: int, device: torch.device
) -> Any:
    """Return a built pipeline that yields `batch` .npy files a run, as bytes, one for each tar and index."""
    from nvidia.dali import fn
    from nvidia.dali.pipeline import Pipeline

    gpu = device.index if device.type == "cuda" else None
    pipeline = Pipeline(batch_size=batch, num_threads=1, device_id=gpu, prefetch_queue_depth=queue)
    with pipeline:
        npy: Any = fn.readers.webdataset(
            ext=[f"{geometry.view}.npy"],
            paths=tars,
            index_paths=indices,
            lazy_init=True,  # opened at the first run, not in the thread that Python needs
            tensor_init_bytes=geometry.npy_bytes,
            missing_component_behavior="error",
        )
        pipeline.set_outputs(npy if gpu is None else npy.gpu())
    pipeline.build()
    return pipeline


def _require_dali() -> None:
    try:
        import nvidia.dali  # noqa: F401
    except ImportError:
        raise UsageError("reading with DALI needs the extra: pip install 'skelpipe[dali]'") from None


def _reason(error: RuntimeError) -> str:
    """Return the one line of DALI's report that says what went wrong."""
    found = re.search(r"encountered:\s*(.+)", str(error)) or re.search(r"(.+)", str(error))
    return "" if found is None else found[1].strip()
