"""The last step of `prepare`: from the receipts of the shards to anchors, sample table, README and card."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe import __version__
from skelpipe.dataset.card import FORMAT, SAMPLES, card_digest
from skelpipe.dataset.tar_shard import Geometry
from skelpipe.errors import SkelpipeError
from skelpipe.files import replacing, size_and_hash
from skelpipe.manifest import SUBSETS, Manifest
from skelpipe.plugins import origins, used
from skelpipe.prepare.folder_lock import README
from skelpipe.prepare.plan import Drop, Plan, Sample
from skelpipe.prepare.provenance import raw_facts
from skelpipe.prepare.readme import dataset_readme
from skelpipe.prepare.sample_table import SampleRow, write_samples
from skelpipe.prepare.shard_writer import ShardJob, shard_file
from skelpipe.prepare.untrimmed_writer import VideoJob, gather_videos
from skelpipe.prepare.writers import DatasetWriter
from skelpipe.preprocess import PROFILES
from skelpipe.views import VIEWS, derive

__all__ = ["assemble"]


def assemble(
    manifest: Manifest,
    options: Mapping[str, Any],
    plan: Plan,
    jobs: Sequence[ShardJob],
    video_jobs: Sequence[VideoJob],
    formats: Sequence[str],
    writer: DatasetWriter,
    raw_hashes: Callable[[Mapping[str, str]], Mapping[str, str | None]] = lambda read: read,
) -> dict[str, Any]:
    """Gather the receipts; write anchors, sample table, README and, last, the card. Return the card.

    `options` are those that decide the content, as plain values; `formats` are the containers to keep.
    `raw_hashes` takes the hashes of raw files as they were read, and returns that of each sample's; it raises
    SkelpipeError where a raw file changed meanwhile.
    """
    gathered = _gather(plan, jobs, writer, raw_hashes)
    out = writer.folder
    table, raw = write_samples(out / SAMPLES, gathered.rows)
    shape, dtype = jobs[0].shape, jobs[0].dtype
    profile = PROFILES[options["profile"]]
    card: dict[str, Any] = {
        "format": FORMAT,
        "generator": f"skelpipe {__version__}",
        "name": manifest.name,
        "title": manifest.title,
        "split": options["split"],
        "options": dict(options),
        "formats": list(formats),
        "profile": {"name": profile.name, "version": profile.version},
        "shape": list(shape),
        "channels": list(manifest.stored_channels),
        "dtype": dtype,
        "layout": manifest.layout.to_plain(),
        "classes": list(manifest.classes),
        "classes_note": manifest.classes_note,
        "views": {view: _plain_geometry(Geometry(view, shape, dtype)) for view in VIEWS},
        "splits": gathered.splits,
        "anchors": _write_anchors(manifest, gathered.joint_sum, gathered.splits["train"]["samples"], out),
        "samples": table,
        "provenance": {**raw, "raw_times": plan.fingerprint(times=True)},
        "dropped": dict(sorted(Counter(row.reason for row in gathered.rows if row.reason).items())),
        "noted": sum(bool(row.note) for row in gathered.rows),
        "like_score": gathered.like_score,
        "published": dict(manifest.split(options["split"]).published),
        "definition": manifest.definition(options["split"]),
        "raw_fingerprint": plan.fingerprint(),
        "units": manifest.units,
        "terms": manifest.terms,
        "homepage": manifest.homepage,
    }
    if plugins := used(origins([("reader", manifest.reader), ("layout", manifest.layout.name)])):
        card["plugins"] = [each.to_plain() for each in plugins]
    if video_jobs:
        card["untrimmed"] = gather_videos(video_jobs, writer.read_receipts(video_jobs))
    card["samples_file"] = {"sha256": size_and_hash(out / SAMPLES)[1]}
    card["digest"] = card_digest(card)
    if "hdf5" in formats:
        card["hdf5"] = writer.hdf5(card)
    with replacing(out / README) as file:
        file.write(dataset_readme(manifest, card).encode())
    writer.publish(card)
    return card


@dataclass
class _Gathered:
    """The content of the receipts: the sample table, the card's entry per subset, the sum of training clips."""

    rows: list[SampleRow]
    splits: dict[str, Any]
    joint_sum: np.ndarray
    like_score: int = 0  # samples in which the third number of joints looks like a score


def _gather(
    plan: Plan,
    jobs: Sequence[ShardJob],
    writer: DatasetWriter,
    raw_hashes: Callable[[Mapping[str, str]], Mapping[str, str | None]],
) -> _Gathered:
    splits: dict[str, Any] = {subset: {"samples": 0, "shards": []} for subset in SUBSETS}
    found = _Gathered([_row(drop, reason=drop.reason) for drop in plan.drops], splits, np.zeros(jobs[0].shape))
    receipts = writer.read_receipts(jobs)
    read = {id_: each for receipt in receipts if receipt for id_, each in receipt["raw_xxh128"].items()}
    hashes = raw_hashes(read)
    for job, receipt in zip(jobs, receipts, strict=True):
        if receipt is None:
            gone = shard_file(Path(), job.shard.subset, "*", job.shard.name)
            raise SkelpipeError(f"{writer}/{gone}: files are missing; run prepare again")
        by_id = {sample.id: sample for sample in job.shard.samples}
        found.rows += [_row(by_id[id_], hashes.get(id_), reason=reason) for id_, reason in receipt["drops"]]
        for row, facts in enumerate(receipt["samples"]):
            id_ = facts.pop("id")
            found.rows.append(_row(by_id[id_], hashes.get(id_), shard=job.shard.name, row=row, **facts))
        found.like_score += receipt["like_score"]
        if not receipt["samples"]:  # every recording of it was dropped; an empty shard would be useless
            writer.drop(job)
            continue
        entry = splits[job.shard.subset]
        entry["samples"] += len(receipt["samples"])
        shard = {"name": job.shard.name, "samples": len(receipt["samples"]), "views": receipt["views"]}
        entry["shards"].append(shard)
        if job.shard.subset == "train":
            found.joint_sum += np.load(job.joint_sum, allow_pickle=False)
    found.rows.sort(key=lambda row: (row.id, row.reason or ""))
    return found


def _write_anchors(manifest: Manifest, total: np.ndarray, count: int, out: Path) -> dict[str, Any]:
    """Write the mean training clip of each view (the static anchor of ActCLR, eq. 2); return their hashes.

    Bone and motion are linear in the joints, so their means are the bone and motion of the mean joint clip.
    """
    if not count:
        return {"absent": "the training side is empty"}
    hashes = {}
    for view in VIEWS:
        path = out / "anchors" / f"{view}.npy"
        with replacing(path) as file:
            np.save(file, derive(total / count, view, manifest.layout).astype(np.float32))
        hashes[view] = {"sha256": size_and_hash(path)[1]}
    return hashes


def _row(of: Sample | Drop, raw_hash: str | None = None, **facts: Any) -> SampleRow:
    """Return the row of a sample or drop; `facts` are columns that the plan does not know."""
    cut = of.cut
    known: dict[str, Any] = {
        **(raw_facts(of.file, raw_hash) if isinstance(of, Sample) else {}),
        "id": of.id,
        "label": of.label if of.label >= 0 else None,
        "fields": of.fields,
        "recording": cut.recording if cut else None,
        "start": cut.start if cut else None,
        "end": cut.end if cut else None,
        "split": of.subset or None,
    }
    return SampleRow(**known, **facts)


def _plain_geometry(geometry: Geometry) -> dict[str, int]:
    return {"start": 0, "stride": geometry.stride, "data_offset": geometry.data_offset}
