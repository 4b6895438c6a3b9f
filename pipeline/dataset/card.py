"""The card of a dataset: `dataset.json`, its commit record, and `samples.parquet`, a row a sample.

No card, no dataset: the card is written last. Its digest names the dataset's content, so that two laboratories
compare a hash instead of mailing files: it is taken of options, layout, hashes of all shards and anchors, and the
rows of the sample table; neither the machine nor the version of any library enters it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skelpipe.dataset.parquet import read_parquet
from skelpipe.errors import DatasetError
from skelpipe.files import canonical_json, replacing

__all__ = [
    "CARD",
    "COLUMNS",
    "FORMAT",
    "SAMPLES",
    "Row",
    "card_digest",
    "parse_card",
    "parse_samples",
    "read_card",
    "read_samples",
    "write_samples",
]

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
# What every card says beside.
TOLD = ("title", "formats", "definition", "raw_fingerprint", "samples_file", "published", "dropped", "terms")
OPTIONAL = ("untrimmed",)  # digested where it is there

# The columns every sample table has; a field of a dataset's names that is not among them is a column of its own.
COLUMNS = {
    "id": pa.string(),
    "label": pa.int32(),
    "subject": pa.int32(),
    "camera": pa.int32(),
    "setup": pa.int32(),
    "replication": pa.int32(),
    "recording": pa.string(),
    "start": pa.int32(),
    "end": pa.int32(),
    "frames": pa.int32(),
    "bodies": pa.int32(),
    "split": pa.string(),
    "shard": pa.string(),
    "row": pa.int32(),
    "reason": pa.string(),
    "note": pa.string(),
}
LARGEST = 2**31 - 1  # of an int32 column: a field with larger numbers, such as a time, becomes texts
FIELDS = ("subject", "camera", "setup", "replication")


class Row(NamedTuple):
    """One row of the sample table. A dropped sample has a reason and neither shard nor row.

    `fields` are what the recording's name says. A clip of an untrimmed `recording` has `start` and `end`, frames
    from 1, both included; `note` tells what is odd about it.
    """

    id: str
    label: int | None
    fields: Mapping[str, int | str]
    recording: str | None
    start: int | None
    end: int | None
    frames: int | None
    bodies: int | None
    split: str | None
    shard: str | None
    row: int | None
    reason: str | None
    note: str | None


def card_digest(card: Mapping[str, Any]) -> str:
    """Return the digest of a card's content (sha256, hex)."""
    content = {key: card[key] for key in (*DIGESTED, *(key for key in OPTIONAL if key in card))}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def write_samples(path: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Write the sample table; return its columns and the hash of its rows, not of pyarrow's bytes."""
    named = {name for row in rows for name in row.fields}
    schema = dict(COLUMNS) | dict.fromkeys(sorted(named - COLUMNS.keys()), pa.int32())
    columns = {}
    for name in schema:
        if name in FIELDS or name not in COLUMNS:
            columns[name] = [row.fields.get(name) for row in rows]
            said = {value for value in columns[name] if value is not None}
            if any(isinstance(value, str) or abs(value) > LARGEST for value in said):
                schema[name] = pa.string()
                columns[name] = [None if value is None else str(value) for value in columns[name]]
        else:
            columns[name] = [getattr(row, name) for row in rows]
    arrays = [_array(values, schema[name]) for name, values in columns.items()]
    with replacing(path) as file:
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=pa.schema(list(schema.items()))), file, compression="zstd"
        )
    lines = list(zip(*columns.values(), strict=True))
    return {"rows": len(rows), "sha256": _rows_hash(lines), "columns": list(columns)}


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return a column of texts or int32 with nulls.

    `pa.array` would do, but imports pandas where there is one, which takes half a second.
    """
    if kind == pa.string():
        builder = pa.lib.StringBuilder()
        builder.append_values(values)
        return builder.finish()
    valid = np.array([value is not None for value in values], bool)
    bits = np.packbits(valid, bitorder="little")
    numbers = np.array([0 if value is None else value for value in values], np.int32)
    return pa.Array.from_buffers(kind, len(values), [pa.py_buffer(bits), pa.py_buffer(numbers)])


def _rows_hash(lines: Sequence[Sequence[Any]]) -> str:
    hasher = hashlib.sha256()
    for line in lines:
        hasher.update(canonical_json(line) + b"\n")
    return hasher.hexdigest()


def read_samples(folder: Path, card: Mapping[str, Any]) -> pa.Table:
    """Return the sample table of a dataset; DatasetError where it is not the one of the card."""
    path = folder / SAMPLES
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_samples(content, card, folder)


def parse_samples(content: bytes, card: Mapping[str, Any], place: object) -> pa.Table:
    """Return the sample table in `content`; `place` is the dataset's, for messages.

    Raises DatasetError where it is not the one of the card.
    """
    path, expected = f"{place}/{SAMPLES}", card["samples"]
    if hashlib.sha256(content).hexdigest() != card["samples_file"]["sha256"]:
        raise DatasetError(f"{path}: damaged, or another dataset's: its sha256 is not the card's")
    try:
        table = read_parquet(content)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    if table.schema.names != expected["columns"]:
        raise DatasetError(f"{path}: its columns are not those that the card says")
    if table.num_rows != expected["rows"]:
        raise DatasetError(f"{path}: {table.num_rows} rows, the card says {expected['rows']}")
    return table


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of the dataset in a folder; DatasetError where there is none or `parse_card` refuses it."""
    path = folder / CARD
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{folder}: no {CARD} here: no dataset, or one that prepare did not finish") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_card(content, folder)


def parse_card(content: bytes, place: object) -> dict[str, Any]:
    """Return the card in `content`; `place` is the dataset's, for messages.

    Raises DatasetError where it is no card of ours or of a later version, or was edited.
    """
    try:
        card: dict[str, Any] = json.loads(content)
        name, version = card["format"]["name"], card["format"]["version"]
    except (ValueError, KeyError, TypeError):
        raise DatasetError(f"{place}/{CARD}: is no card of a skelpipe dataset") from None
    if name != FORMAT["name"] or version != FORMAT["version"]:
        raise DatasetError(f"{place}/{CARD}: format {name} {version}; this skelpipe reads {FORMAT['version']}")
    if missing := [key for key in (*DIGESTED, *TOLD) if key not in card]:
        raise DatasetError(f"{place}/{CARD}: the key {missing[0]!r} is missing: it was changed after prepare")
    if card.get("digest") != card_digest(card):
        raise DatasetError(f"{place}/{CARD}: its digest does not fit its content: it was changed after prepare")
    return card
