"""NVIDIA DALI as a second reader of tar shards, with the same batches in the same order.

By default DALI reads a shard from first to last and shuffles in a buffer, so only among rows that are close
together. Here DALI gets one index file per row, in the order of the stream. So epochs, ranks, last batches and
resuming are those of the stream.
"""

import hashlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from skelpipe.dataset import Dataset
from skelpipe.dataset.joined import parts_of
from skelpipe.dataset.tar_shard import NPY_DATA, Geometry
from skelpipe.errors import DatasetError, UsageError
from skelpipe.files import MOST_READ, read_at_most
from skelpipe.loader.stream import Stream

__all__ = ["DaliClips"]

# DALI opens all rows of a pipeline before it reads the first, about 15 us each. So an epoch is read in pieces, and
# the next piece is opened while one is read. A row counts as a mapped file, and DALI uses half of those Linux
# allows.
ROWS_AT_ONCE = 4096
QUEUE = 2  # batches that DALI reads ahead


class DaliClips:
    """The clips of one view of a stream, read by DALI into memory of the CPU or of a GPU."""

    def __init__(
        self, stream: Stream, view: str, device: torch.device, rows: Callable[[int, int], NDArray[np.int64]]
    ) -> None:
        """Read the rows that `rows` returns for an epoch and a step; their number may differ from step to step.

        Raises UsageError without the `dali` extra, DatasetError where tars or their indices are missing.
        """
        _require_dali()
        dataset = stream.dataset
        parts = parts_of(dataset)
        for part in parts:
            if "shards" in part.card["formats"]:
                continue
            raise DatasetError(
                f"{part.path}: holds its clips in HDF5 files only, and DALI reads tar shards: prepare it with "
                f"--format shards or both, or read it without DALI"
            )
        self.device = device if device.type == "cuda" else torch.device("cpu")
        self._stream, self._rows = stream, rows
        self._geometry = dataset.geometry(view)
        if any(part.geometry(view) != self._geometry for part in parts):
            raise UsageError(f"{dataset.path}: DALI reads several datasets of one --dtype only")
        self._indices = _RowIndices(dataset, stream.subset, view)
        self._starts = np.concatenate([[0], np.cumsum(dataset.shard_sizes(stream.subset))]).astype(np.int64)
        self._running: _Piece | None = None
        self._next: _Piece | None = None

    def read(self, epoch: int, step: int, rows: NDArray[np.int64], out: Tensor) -> None:
        """Write the clips of this step, `rows`, into `out`, float32[n,C,T,V,M] on the device, and wait.

        Steps in order are read ahead; any other step starts a new pipeline. Raises DatasetError where DALI fails.
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
        """Return None: DALI copies clips into memory."""

    def close(self) -> None:
        """End DALI's threads."""
        self._running = self._next = None

    def _piece(self, epoch: int, step: int) -> "_Piece":
        """Return the piece whose next step is this one, opened if necessary."""
        if self._running is None or not self._running.is_at(epoch, step):
            self._running, self._next = self._next, None
        if self._running is None or not self._running.is_at(epoch, step):
            self._running = self._open(epoch, step)
        assert self._running is not None, "the step has rows"
        return self._running

    def _open(self, epoch: int, first: int) -> "_Piece | None":
        """Let DALI start at step `first`. All steps read equally many rows: the last row is repeated as needed."""
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
    """Consecutive steps of an epoch that one pipeline reads."""

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


class _RowIndices:
    """DALI index files of single rows, in a temporary folder; each is written when it is first needed.

    DALI reads the samples of an index file from first to last, but several index files in any order. Row r has the
    same offset in all shards of a view, so one index file per row number serves all shards.
    """

    def __init__(self, dataset: Dataset, subset: str, view: str) -> None:
        """Read the `.idx` file of every shard; DatasetError for one that is missing or differs from the card."""
        self.tars: list[str] = []
        self._entries: list[str] = []
        component = re.compile(rf" {re.escape(view)}\.npy (\d+) (\d+) ")
        for owner, shard in ((part, shard) for part in parts_of(dataset) for shard in part.shards(subset)):
            tar = owner.filesystem.local_path / subset / view / f"{shard['name']}.tar"
            text = _read_index(tar.with_suffix(".idx"), shard["views"][view]["idx_sha256"])
            self.tars.append(str(tar))
            if shard["samples"] > len(self._entries):
                self._entries = [f"{view}.npy {at} {size}" for at, size in component.findall(text)]
        self._folder = Path(tempfile.mkdtemp(prefix="skelpipe-dali-"))
        self._written: set[int] = set()
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def paths(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the index file of each of these rows, numbered within a shard."""
        for row in set(rows.tolist()) - self._written:
            self._path(row).write_text(f"v1.2 1\n{self._entries[row]} row-{row}\n")
            self._written.add(row)
        return [str(self._path(row)) for row in rows.tolist()]

    def _path(self, row: int) -> Path:
        return self._folder / f"{row}.idx"


def _read_index(path: Path, sha256: str) -> str:
    try:
        content = read_at_most(path, MOST_READ)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read, and DALI needs it: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DatasetError(f"{path}: is not the index that was written with its shard; copy or prepare it again")
    return content.decode()


def _pipeline(
    tars: Sequence[str], indices: Sequence[str], geometry: Geometry, batch: int, queue: int, device: torch.device
) -> Any:
    """Return a built pipeline: each run yields `batch` .npy files as bytes, one per tar and index."""
    from nvidia.dali import fn
    from nvidia.dali.pipeline import Pipeline

    gpu = device.index if device.type == "cuda" else None
    pipeline = Pipeline(batch_size=batch, num_threads=1, device_id=gpu, prefetch_queue_depth=queue)
    with pipeline:
        npy: Any = fn.readers.webdataset(
            ext=[f"{geometry.view}.npy"],
            paths=tars,
            index_paths=indices,
            lazy_init=True,  # opened at the first run by DALI's threads, not by the calling thread
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
    """Return the line of DALI's report that says what went wrong."""
    found = re.search(r"encountered:\s*(.+)", str(error)) or re.search(r"(.+)", str(error))
    return "" if found is None else found[1].strip()
