"""The card of a dataset: `dataset.json`, its commit record, and `samples.parquet`, a row a sample.

No card, no dataset: the card is written last. Its digest names the dataset's content, so that two laboratories
compare a hash instead of mailing files: it is taken of options, layout, hashes of all shards and anchors, and the
rows of the sample table; neither the machine nor the version of any library enters it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skelpipe.errors import DatasetError
from skelpipe.files import canonical_json, replacing

__all__ = ["CARD", "FORMAT", "SAMPLES", "Row", "card_digest", "read_card", "read_samples", "write_samples"]

CARD = "dataset.json"
SAMPLES = "samples.parquet"
FORMAT = {"name": "skelpipe-dataset", "version": 1}
DIGESTED = (
    "name",
    "split",
    "options",
    "profile",
    "shape",
    "dtype",
    "layout",
    "classes",
    "views",
    "splits",
    "anchors",
    "samples",
)

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int32()),
        ("subject", pa.int32()),
        ("camera", pa.int32()),
        ("setup", pa.int32()),
        ("replication", pa.int32()),
        ("frames", pa.int32()),
        ("bodies", pa.int32()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("row", pa.int32()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class Row:
    """One row of the sample table. A dropped sample has a reason and neither shard nor row."""

    id: str
    label: int | None
    subject: int | None
    camera: int | None
    setup: int | None
    replication: int | None
    frames: int | None
    bodies: int | None
    split: str | None
    shard: str | None
    row: int | None
    reason: str | None

    def line(self) -> list[Any]:
        return [getattr(self, name) for name in _SCHEMA.names]


def card_digest(card: Mapping[str, Any]) -> str:
    """Return the digest of a card's content (sha256, hex)."""
    content = {key: card[key] for key in DIGESTED}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def write_samples(path: Path, rows: list[Row]) -> dict[str, Any]:
    """Write the sample table; return the hash of its rows, the same whatever version of pyarrow wrote it."""
    lines = [row.line() for row in rows]
    columns = list(zip(*lines, strict=True)) or [()] * len(_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    with replacing(path) as file:
        pq.write_table(pa.Table.from_arrays(arrays, schema=_SCHEMA), file, compression="zstd")
    return {"rows": len(rows), "sha256": _rows_hash(lines)}


def _rows_hash(lines: list[list[Any]]) -> str:
    hasher = hashlib.sha256()
    for line in lines:
        hasher.update(canonical_json(line) + b"\n")
    return hasher.hexdigest()


def read_samples(path: Path, expected: Mapping[str, Any]) -> pa.Table:
    """Return the sample table, checked against what the card says of it; DatasetError where they differ."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    if table.schema.names != _SCHEMA.names:
        raise DatasetError(f"{path}: its columns are not those of a sample table")
    if table.num_rows != expected["rows"]:
        raise DatasetError(f"{path}: {table.num_rows} rows, the card says {expected['rows']}")
    return table


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of the dataset in a folder.

    Raises DatasetError where there is none, it is no card of ours or of a later version, or was edited.
    """
    path = folder / CARD
    try:
        card: dict[str, Any] = json.loads(path.read_bytes())
        name, version = card["format"]["name"], card["format"]["version"]
    except FileNotFoundError:
        raise DatasetError(f"{folder}: no {CARD} here: no dataset, or one that prepare did not finish") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise DatasetError(f"{path}: is no card of a skelpipe dataset") from None
    if name != FORMAT["name"] or version != FORMAT["version"]:
        raise DatasetError(f"{path}: format {name} {version}; this skelpipe reads {FORMAT['version']}")
    if not set(DIGESTED) <= set(card) or card.get("digest") != card_digest(card):
        raise DatasetError(f"{path}: its digest does not fit its content: it was changed after prepare")
    return card
