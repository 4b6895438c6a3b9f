"""The sample table of a dataset, `samples.parquet`: one row per sample, dropped ones included."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skelpipe.dataset.arrow_values import texts
from skelpipe.dataset.card import rows_hash
from skelpipe.dataset.table_columns import COLUMNS, FIELDS, PROVENANCE
from skelpipe.files import replacing

__all__ = ["SampleRow", "write_samples"]

LARGEST = 2**31 - 1  # of an int32 column; a field with larger numbers, such as a time, becomes a column of texts


class SampleRow(NamedTuple):
    """One row of the sample table. A dropped sample has a reason and neither shard nor row.

    `fields` are those of the recording's name. A clip of an untrimmed `recording` has `start` and `end`, frames
    from 1, both inclusive. Of the `frames`, `real_frames` show a body; these bodies have `joints`, of which
    `real_joints` were found; `bodies_left_out` counts the bodies that the clip does not show. `note` describes
    what is unusual about the sample.

    `raw_file` is the raw file's name inside `--raw` and `raw_item` the place in a file of many recordings;
    `raw_size` is in bytes, `raw_time` the time of its last change in ns since 1970, that of an archive for its
    members.
    """

    id: str
    label: int | None
    fields: Mapping[str, int | str]
    recording: str | None = None
    start: int | None = None
    end: int | None = None
    frames: int | None = None
    bodies: int | None = None
    real_frames: int | None = None
    joints: int | None = None
    real_joints: int | None = None
    bodies_left_out: int | None = None
    split: str | None = None
    shard: str | None = None
    row: int | None = None
    reason: str | None = None
    note: str | None = None
    raw_file: str | None = None
    raw_item: str | None = None
    raw_size: int | None = None
    raw_time: int | None = None
    raw_xxh128: str | None = None


def write_samples(path: Path, rows: Sequence[SampleRow]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the sample table; return columns and hash of what the digest covers, and of the raw files' facts.

    The hashes are of the rows, not of pyarrow's bytes.
    """
    named = {name for row in rows for name in row.fields}
    schema = dict(COLUMNS) | dict.fromkeys(sorted(named - COLUMNS.keys() - PROVENANCE.keys()), pa.int32())
    given: dict[str, Sequence[Any]] = dict(zip(SampleRow._fields, zip(*rows, strict=True), strict=False))
    columns: dict[str, Sequence[Any]] = {}
    for name in schema:
        if name in FIELDS or name not in COLUMNS:
            columns[name] = [fields.get(name) for fields in given.get("fields", ())]
            known = set(columns[name]) - {None}
            if any(isinstance(value, str) or abs(value) > LARGEST for value in known):
                schema[name] = pa.string()
                columns[name] = [None if value is None else str(value) for value in columns[name]]
        else:
            columns[name] = given.get(name, ())
    raw = {name: given.get(name, ()) for name in PROVENANCE}
    schema |= PROVENANCE
    arrays = [_array(values, schema[name]) for name, values in (columns | raw).items()]
    table = pa.Table.from_arrays(arrays, schema=pa.schema(list(schema.items())))
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd")
    return (
        {"rows": len(rows), "sha256": rows_hash(table.select(list(columns))), "columns": list(columns)},
        {"sha256": rows_hash(table.select(list(raw))), "columns": list(raw)},
    )


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return a column of texts, int32 or int64 with nulls.

    `pa.array` would do the same, but imports pandas if it is installed, which takes half a second.
    """
    if kind == pa.string():
        return texts(values)
    plain, bits = np.int64 if kind == pa.int64() else np.int32, None
    if None in values:
        bits = pa.py_buffer(np.packbits([value is not None for value in values], bitorder="little"))
        values = [0 if value is None else value for value in values]
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.array(values, plain))])
