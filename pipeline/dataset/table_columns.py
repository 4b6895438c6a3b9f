"""The columns of a sample table, and what they hold."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from skelpipe.untrusted import shown

__all__ = ["COLUMNS", "FIELDS", "PROVENANCE", "why_no_columns", "why_no_table"]

# The columns of every sample table; any other field of a dataset's names gets a column of its own.
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
    "real_frames": pa.int32(),
    "joints": pa.int32(),
    "real_joints": pa.int32(),
    "bodies_left_out": pa.int32(),
    "split": pa.string(),
    "shard": pa.string(),
    "row": pa.int32(),
    "reason": pa.string(),
    "note": pa.string(),
}
# What the table says of a recording's raw file; no part of the digest, since times differ between machines, and
# an archive holds the same recordings as a folder.
PROVENANCE = {
    "raw_file": pa.string(),
    "raw_item": pa.string(),
    "raw_size": pa.int64(),
    "raw_time": pa.int64(),
    "raw_xxh128": pa.string(),
}
FIELDS = (
    "subject",
    "camera",
    "setup",
    "replication",
)  # texts where a name has more than numbers of 32 bits
EARLIER = {"raw_sha256": pa.string()}  # of tables that were written before raw_xxh128
LATER = frozenset({"real_frames", "joints", "real_joints", "bodies_left_out"})  # tables of version 1 lack them


def why_no_columns(digested: Sequence[str], raw: Sequence[str]) -> str | None:
    """Return what is wrong with the names of a table's columns: those of the digest, and those on raw files."""
    for name in sorted(COLUMNS.keys() - LATER - set(digested)):
        return f"the column {name} is missing"
    for name, count in Counter([*digested, *raw]).items():
        if count > 1:
            return f"the column {shown(name)} comes {count} times"
    for name in sorted(set(raw) - PROVENANCE.keys() - EARLIER.keys()):
        return f"the column {shown(name)} says nothing of raw files"
    return None


def why_no_table(schema: pa.Schema) -> str | None:
    """Return what is wrong with the kinds of a table's columns; None where they are texts and whole numbers.

    Columns of other names are further fields of a recording's name.
    """
    known = COLUMNS | PROVENANCE | EARLIER
    for field in schema:
        text, wanted = pa.types.is_string(field.type), known.get(field.name)
        if not text and not pa.types.is_integer(field.type):
            return f"column {field.name} holds {field.type}, not texts or whole numbers"
        if wanted is not None and field.name not in FIELDS and text != pa.types.is_string(wanted):
            return f"column {field.name} holds {field.type}, not {'whole numbers' if text else 'texts'}"
    return None
