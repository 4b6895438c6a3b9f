"""Write one shard of every view from its raw recordings: the unit of work of `prepare`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.dataset.tar_shard import TAIL, Geometry, index_text, new_block
from skelpipe.files import HashingWriter, replacing, write_json
from skelpipe.manifest import Manifest
from skelpipe.memory import keep_freed_memory
from skelpipe.prepare.clips import EMPTY_WINDOW, ClipReader, Kept
from skelpipe.prepare.plan import ShardPlan
from skelpipe.preprocess import Policies
from skelpipe.views import VIEWS, derive

__all__ = ["ShardJob", "dropped_damaged", "read_receipt", "shard_file", "write_shard"]

AT_ONCE = 16  # samples in memory; so few stay in the cache of the CPU from the first view to the last hash


@dataclass(frozen=True)
class ShardJob:
    """One shard to write into the dataset folder `out`; its receipt goes to `receipts`.

    `settings` is a hash of everything that decides the dataset; a receipt with another hash is ignored.
    """

    manifest: Manifest
    shard: ShardPlan
    out: Path
    receipts: Path
    shape: tuple[int, int, int, int]
    dtype: str
    profile: str
    second_body: str
    policies: Policies
    skip_bad: bool
    settings: str

    def __call__(self) -> None:
        write_shard(self)

    @property
    def receipt(self) -> Path:
        return self.receipts / f"{self.shard.subset}-{self.shard.name}.json"

    @property
    def joint_sum(self) -> Path:
        return self.receipt.with_suffix(".npy")


def shard_file(out: Path, subset: str, view: str, name: str) -> Path:
    """Return the path of a shard's tar; its index is beside it."""
    return out / subset / view / f"{name}.tar"


def write_shard(job: ShardJob) -> None:
    """Write the shard's tars and indices, then its receipt; no incomplete file is left.

    The receipt lists samples in row order with what the sample table says of them, drops as [id, reason], the
    XXH128 of raw files by sample, per view the size and the hashes of its tar, and in how many samples the third
    number of joints looks like a score. Beside it is the float64 sum of the joint clips, from which the anchors
    are computed. Raises RawError for a damaged recording unless `skip_bad`.
    """
    keep_freed_memory()
    total = np.zeros(job.shape)
    geometries = {view: Geometry(view, job.shape, job.dtype) for view in VIEWS}
    paths = {view: shard_file(job.out, job.shard.subset, view, job.shard.name) for view in VIEWS}
    kept: list[Kept] = []
    how = (job.dtype, job.profile, job.second_body, job.policies)
    reader = ClipReader(job.manifest, job.shape, *how, skip_bad=job.skip_bad)
    with ExitStack() as stack:
        writers = {view: HashingWriter(stack.enter_context(replacing(paths[view], shared=True))) for view in VIEWS}
        for start in range(0, len(job.shard.samples), AT_ONCE):
            rows, clips = reader.read(job.shard.samples[start : start + AT_ONCE])
            if rows:
                total += _write_block(job.manifest, rows, clips, geometries, writers)
                kept += rows
        for writer in writers.values():
            writer.write(TAIL)
    ids = [row.sample.id for row in kept]
    labels = [row.sample.label for row in kept]
    views = {}
    for view, writer in writers.items():
        index = index_text(geometries[view], ids, labels).encode()
        with replacing(paths[view].with_suffix(".idx"), shared=True) as file:
            file.write(index)
        views[view] = {
            "bytes": writer.size,
            "sha256": writer.sha256,
            "idx_sha256": hashlib.sha256(index).hexdigest(),
        }
    with replacing(job.joint_sum, shared=True) as file:
        np.save(file, total)
    receipt = {
        "settings": job.settings,
        "samples": [
            {
                "id": row.sample.id,
                "frames": row.frames,
                "bodies": row.bodies,
                "real_frames": row.real.frames,
                "joints": row.real.joints,
                "real_joints": row.real.real_joints,
                "bodies_left_out": row.real.bodies_left_out,
                "note": row.note or None,
            }
            for row in kept
        ],
        "like_score": sum(row.like_score for row in kept),
        "drops": reader.drops,
        "raw_xxh128": reader.hashes,
        "views": views,
    }
    write_json(job.receipt, receipt, shared=True, indent=None)


def read_receipt(job: ShardJob) -> dict[str, Any] | None:
    """Return the receipt of a shard written earlier, or None if the shard must be written (again).

    A shard with damaged recordings must be written again if drops are not allowed, so that they are reported.
    """
    if not job.receipt.is_file() or not job.joint_sum.is_file():
        return None
    receipt: dict[str, Any] = json.loads(job.receipt.read_bytes())
    if receipt["settings"] != job.settings or (dropped_damaged(receipt) and not job.skip_bad):
        return None
    if "raw_xxh128" not in receipt:  # an earlier skelpipe hashed raw files by sha256, or not at all
        return None
    for view, facts in receipt["views"].items():
        tar = shard_file(job.out, job.shard.subset, view, job.shard.name)
        if not tar.with_suffix(".idx").is_file() or not tar.is_file() or tar.stat().st_size != facts["bytes"]:
            return None
    return receipt


def dropped_damaged(receipt: Mapping[str, Any]) -> bool:
    """Return whether a receipt lists drops other than windows that show no body."""
    return any(reason != EMPTY_WINDOW for _, reason in receipt["drops"])


def _write_block(
    manifest: Manifest,
    rows: Sequence[Kept],
    clips: np.ndarray,
    geometries: dict[str, Geometry],
    writers: dict[str, HashingWriter],
) -> np.ndarray:
    """Write some samples of every view; return the float64 sum of the stored joint clips."""
    ids = [row.sample.id for row in rows]
    labels = [row.sample.label for row in rows]
    for view in VIEWS:
        block = new_block(geometries[view], ids, labels)
        stored = geometries[view].arrays(block)
        stored[:] = derive(clips, view, manifest.layout)
        writers[view].write(block.data.cast("B"))
        if view == "joint":
            clips = stored.astype(np.float32, copy=False)  # bone and motion are computed from the stored joints
    return clips.sum(axis=0, dtype=np.float64)
