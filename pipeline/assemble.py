"""The last step of `prepare`: receipts of the shards to anchors, sample table, README and card."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe import __version__
from skelpipe.card import CARD, FORMAT, SAMPLES, Row, card_digest, write_samples
from skelpipe.errors import SkelpipeError
from skelpipe.files import replacing, write_json
from skelpipe.manifest import SIDES, Manifest
from skelpipe.plan import Drop, Plan, Sample
from skelpipe.preprocess import CROSCLR_VERSION
from skelpipe.readme import dataset_readme
from skelpipe.shard_writer import ShardJob, read_receipt
from skelpipe.tarshard import Geometry
from skelpipe.views import VIEWS, derive
from skelpipe.workspace import README

__all__ = ["assemble"]


def assemble(
    manifest: Manifest, options: Mapping[str, Any], plan: Plan, jobs: Sequence[ShardJob], out: Path
) -> dict[str, Any]:
    """Gather the receipts; write anchors, sample table, README and, last, the card. Return the card.

    `options` are those of `skelpipe.prepare.Options`, as plain values.
    """
    rows = [_dropped(drop) for drop in plan.drops]
    splits: dict[str, Any] = {side: {"samples": 0, "shards": []} for side in SIDES}
    total, trained = np.zeros(jobs[0].shape), 0
    for job in jobs:
        receipt = read_receipt(job)
        if receipt is None:
            raise SkelpipeError(f"{job.receipt}: the shard's files are gone; run prepare again")
        by_id = {sample.id: sample for sample in job.shard.samples}
        rows += [_dropped(_as_drop(by_id[id_], reason)) for id_, reason in receipt["drops"]]
        for row, (id_, frames, bodies) in enumerate(receipt["samples"]):
            rows.append(_kept(by_id[id_], frames, bodies, job.shard.name, row))
        if not receipt["samples"]:  # every recording of it was dropped: a shard of nothing helps no reader
            for view in VIEWS:
                for suffix in (".tar", ".idx"):
                    (out / job.shard.side / view / f"{job.shard.name}{suffix}").unlink()
            continue
        facts = splits[job.shard.side]
        facts["samples"] += len(receipt["samples"])
        shard = {"name": job.shard.name, "samples": len(receipt["samples"]), "views": receipt["views"]}
        facts["shards"].append(shard)
        if job.shard.side == "train":
            total += np.load(job.joint_sum, allow_pickle=False)
            trained += len(receipt["samples"])
    rows.sort(key=lambda row: (row.id, row.reason or ""))
    geometries = {view: Geometry(view, jobs[0].shape) for view in VIEWS}
    card: dict[str, Any] = {
        "format": FORMAT,
        "generator": f"skelpipe {__version__}",
        "name": manifest.name,
        "title": manifest.title,
        "split": options["split"],
        "options": {"dataset": manifest.name, **options},
        "profile": {"name": options["profile"], "version": CROSCLR_VERSION},
        "shape": list(jobs[0].shape),
        "dtype": geometries["joint"].dtype,
        "layout": manifest.layout.to_plain(),
        "classes": list(manifest.classes),
        "views": {view: _plain_geometry(geometry) for view, geometry in geometries.items()},
        "splits": splits,
        "anchors": _write_anchors(manifest, total, trained, out),
        "samples": write_samples(out / SAMPLES, rows),
        "dropped": dict(sorted(Counter(row.reason for row in rows if row.reason).items())),
        "published": dict(manifest.split(options["split"]).published),
        "raw_fingerprint": plan.fingerprint(),
        "terms": manifest.terms,
        "homepage": manifest.homepage,
    }
    card["samples_file"] = {"sha256": hashlib.sha256((out / SAMPLES).read_bytes()).hexdigest()}
    card["digest"] = card_digest(card)
    with replacing(out / README) as file:
        file.write(dataset_readme(manifest, card).encode())
    os.sync()  # whatever the card promises is on disk before the card is
    write_json(out / CARD, card, durable=True)
    return card


def _write_anchors(manifest: Manifest, total: np.ndarray, count: int, out: Path) -> dict[str, Any]:
    """Write the mean training clip of each view (ActCLR's static anchor, eq. 2); return their hashes.

    Bone and motion are linear in the joints, so their means are the views of the mean joint clip.
    """
    if not count:
        return {"absent": "the training side is empty"}
    hashes = {}
    for view in VIEWS:
        path = out / "anchors" / f"{view}.npy"
        with replacing(path) as file:
            np.save(file, derive(total / count, view, manifest.layout).astype(np.float32))
        hashes[view] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return hashes


def _kept(sample: Sample, frames: int, bodies: int, shard: str, row: int) -> Row:
    return _row(sample, frames=frames, bodies=bodies, shard=shard, row=row, reason=None)


def _dropped(drop: Drop) -> Row:
    return _row(drop, frames=None, bodies=None, shard=None, row=None, reason=drop.reason)


def _as_drop(sample: Sample, reason: str) -> Drop:
    return Drop(sample.id, sample.side, sample.label, sample.fields, reason)


def _row(of: Sample | Drop, **rest: Any) -> Row:
    return Row(
        id=of.id,
        label=of.label if of.fields else None,
        split=of.side or None,
        subject=of.fields.get("subject"),
        camera=of.fields.get("camera"),
        setup=of.fields.get("setup"),
        replication=of.fields.get("replication"),
        **rest,
    )


def _plain_geometry(geometry: Geometry) -> dict[str, int]:
    return {"start": 0, "stride": geometry.stride, "data_offset": geometry.data_offset}
