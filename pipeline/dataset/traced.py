"""Where one clip of a dataset is, and which raw file it was made from."""

from datetime import UTC, datetime
from typing import Any

import pyarrow.compute as pc

from skelpipe.dataset import Dataset
from skelpipe.dataset.arrow_values import text
from skelpipe.errors import UsageError
from skelpipe.untrusted import shown

__all__ = ["traced"]

CLOSEST = 3
SECOND = 10**9  # ns


def traced(dataset: Dataset, identity: str) -> dict[str, Any]:
    """Return what the sample table says of one clip, by name; None for what it does not say.

    `raw_time` is a text in UTC. UsageError where no clip has this id.
    """
    table = dataset.table()
    found = table.filter(pc.equal(table["id"], text(identity))).to_pylist()
    if not found:
        raise UsageError(
            f"--id {identity}: {dataset.path} has no such clip{_like(table['id'].to_pylist(), identity)}"
        )
    row = found[0]
    label = row["label"]
    changed = row.get("raw_time")
    return {
        "id": identity,
        "subset": row["split"],
        "label": label,
        "class": dataset.classes[label] if label is not None and 0 <= label < len(dataset.classes) else None,
        "shard": row["shard"],
        "row": row["row"],
        "left_out": row["reason"],
        "note": row["note"],
        "recording": row["recording"],
        "first_frame": row["start"],
        "last_frame": row["end"],
        "frames": row["frames"],
        "bodies": row["bodies"],
        "bodies_left_out": row.get("bodies_left_out"),
        "raw_file": row.get("raw_file"),
        "raw_item": row.get("raw_item"),
        "raw_size": row.get("raw_size"),
        "raw_time": None if changed is None else datetime.fromtimestamp(changed / SECOND, UTC).isoformat(),
        "raw_xxh128": row.get("raw_xxh128"),
        "raw_sha256": row.get("raw_sha256"),
    }


def _like(ids: list[str], identity: str) -> str:
    near = [each for each in ids if each and identity.lower() in each.lower()][:CLOSEST] or ids[:CLOSEST]
    return f"; some are {', '.join(map(shown, near))}" if near else ""
