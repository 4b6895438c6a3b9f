"""Writes one shard of every view from its raw recordings: the unit of work of `prepare`."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from skelpipe.errors import RawError
from skelpipe.files import replacing, write_json
from skelpipe.manifest import Manifest
from skelpipe.plan import Sample, ShardPlan
from skelpipe.preprocess import crosclr
from skelpipe.raw import READERS, Recording
from skelpipe.raw.source import TextBuffer
from skelpipe.tarshard import TAIL, Geometry, index_text, new_block
from skelpipe.views import VIEWS, derive

__all__ = ["ShardJob", "read_receipt", "write_shard"]

AT_ONCE = 64  # samples in memory


@dataclass(frozen=True)
class ShardJob:
    """One shard to write into the dataset folder `out`; its receipt goes to `receipts`."""

    manifest: Manifest
    shard: ShardPlan
    out: Path
    receipts: Path
    shape: tuple[int, int, int, int]
    skip_bad: bool

    @property
    def receipt(self) -> Path:
        return self.receipts / f"{self.shard.side}-{self.shard.name}.json"

    @property
    def joint_sum(self) -> Path:
        return self.receipt.with_suffix(".npy")


def write_shard(job: ShardJob) -> None:
    """Write the shard's tars and indices, then its receipt; nothing half-written is left behind.

    The receipt lists samples in row order as [id, frames, bodies], drops as [id, reason], and a tar's size and
    hashes a view; beside it lies the float64 sum of the joint clips, from which the anchors are made.
    Raises RawError for a damaged recording unless `skip_bad`.
    """
    drops: list[tuple[str, str]] = []
    total = np.zeros(job.shape)
    geometries = {view: Geometry(view, job.shape) for view in VIEWS}
    paths = {view: job.out / job.shard.side / view / f"{job.shard.name}.tar" for view in VIEWS}
    kept: list[tuple[Sample, int, int]] = []
    with ExitStack() as stack:
        writers = {view: _HashingFile(stack.enter_context(replacing(paths[view]))) for view in VIEWS}
        for start in range(0, len(job.shard.samples), AT_ONCE):
            rows = _read(job, job.shard.samples[start : start + AT_ONCE], drops)
            if rows:
                total += _write_block(job.manifest, rows, geometries, writers)
                kept.extend((sample, recording.frames, recording.bodies) for sample, recording in rows)
        for writer in writers.values():
            writer.write(TAIL)
    ids = [sample.id for sample, _, _ in kept]
    labels = [sample.label for sample, _, _ in kept]
    views = {}
    for view, writer in writers.items():
        index = index_text(geometries[view], ids, labels).encode()
        with replacing(paths[view].with_suffix(".idx")) as file:
            file.write(index)
        views[view] = {
            "bytes": writer.size,
            "sha256": writer.hash.hexdigest(),
            "idx_sha256": hashlib.sha256(index).hexdigest(),
        }
    with replacing(job.joint_sum) as file:
        np.save(file, total)
    samples = [[sample.id, frames, bodies] for sample, frames, bodies in kept]
    write_json(job.receipt, {"samples": samples, "drops": drops, "views": views})


def read_receipt(job: ShardJob) -> dict[str, Any] | None:
    """Return the receipt of a shard written earlier, or None where the shard must be written (again).

    A shard with drops does not count where drops are not wanted: its damaged recordings must be heard of.
    """
    if not job.receipt.is_file() or not job.joint_sum.is_file():
        return None
    receipt: dict[str, Any] = json.loads(job.receipt.read_bytes())
    if receipt["drops"] and not job.skip_bad:
        return None
    for view, facts in receipt["views"].items():
        tar = job.out / job.shard.side / view / f"{job.shard.name}.tar"
        if not tar.with_suffix(".idx").is_file() or not tar.is_file() or tar.stat().st_size != facts["bytes"]:
            return None
    return receipt


class _HashingFile:
    """A file that knows the size and the sha256 of what went into it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self.hash.update(content)
        self.size += len(content)


def _read(
    job: ShardJob, samples: Sequence[Sample], drops: list[tuple[str, str]]
) -> list[tuple[Sample, Recording]]:
    """Read recordings; a damaged one is an error or, with `skip_bad`, a drop with its reason."""
    read = READERS[job.manifest.reader]
    text = TextBuffer()
    rows = []
    for sample in samples:
        try:
            recording = read(text.read_raw(sample.file), sample.file.path, len(job.manifest.layout))
            if not recording.bodies:
                raise RawError(f"{sample.file.path}: no body in any of its {recording.frames} frames")
            if np.abs(recording.xyz).max() > np.finfo(np.float32).max:
                raise RawError(f"{sample.file.path}: a coordinate is too large for float32")
        except RawError as error:
            if not job.skip_bad:
                raise RawError(f"{error}; repair or move the file, or pass --on-error skip") from None
            # The path is of this machine, the dataset is not: keep the file's own name.
            drops.append((sample.id, str(error).replace(sample.file.path, Path(sample.file.path).name)))
        else:
            rows.append((sample, recording))
    return rows


def _write_block(
    manifest: Manifest,
    rows: Sequence[tuple[Sample, Recording]],
    geometries: dict[str, Geometry],
    writers: dict[str, _HashingFile],
) -> np.ndarray:
    """Write some samples of every view; return the float64 sum of their joint clips."""
    ids = [sample.id for sample, _ in rows]
    labels = [sample.label for sample, _ in rows]
    joint_block = new_block(geometries["joint"], ids, labels)
    joint = geometries["joint"].arrays(joint_block)
    _, frames, _, bodies = geometries["joint"].shape
    for clip, (_, recording) in zip(joint, rows, strict=True):
        crosclr(recording, manifest.layout, frames, bodies, out=clip)
    writers["joint"].write(joint_block.data.cast("B"))
    for view in VIEWS[1:]:
        block = new_block(geometries[view], ids, labels)
        geometries[view].arrays(block)[:] = derive(joint, view, manifest.layout)
        writers[view].write(block.data.cast("B"))
    return joint.sum(axis=0, dtype=np.float64)
