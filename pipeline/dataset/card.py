"""The card of a dataset, `dataset.json`, and its sample table, `samples.parquet`, with one row per sample.

The card is written last: a folder without a card is not a dataset. Its digest is a hash of the dataset's content,
so two laboratories can compare one hash instead of all files. It covers options, layout, the hashes of all shards
and anchors, and the rows of the sample table, but neither the machine nor the version of any library.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skelpipe.dataset.arrow_values import text, texts
from skelpipe.dataset.parquet import MOST_BYTES, parquet_batches
from skelpipe.dataset.table_columns import why_no_table
from skelpipe.errors import DatasetError
from skelpipe.files import MOST_READ, canonical_json, read_at_most, unique_keys
from skelpipe.untrusted import described, shown

__all__ = [
    "CARD",
    "FORMAT",
    "SAMPLES",
    "card_digest",
    "most_table_bytes",
    "parse_card",
    "parse_samples",
    "read_card",
    "read_table",
    "require_file",
    "rows_differ",
    "rows_hash",
    "table_batches",
    "why_no_anchors",
]

CARD = "dataset.json"
SAMPLES = "samples.parquet"
FORMAT = {"name": "skelpipe-dataset", "version": 3}  # of the cards that are written
# That are read. Cards of version 1 have no policies, no channels and no counts of what is real, those of version 2
# nothing of raw files. The digest of the same content is the same in all versions.
VERSIONS = (1, 2, 3)
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
# Further keys that every card must have.
UNDIGESTED = ("title", "formats", "definition", "raw_fingerprint", "samples_file", "published", "dropped", "terms")
OPTIONAL = ("untrimmed", "channels")  # part of the digest if present
MOST_TABLE_BYTES = 1 << 30
ROWS_AT_ONCE = 1 << 16
NOT_PLAIN = r"[^ !#-\[\]-~]"  # a character that JSON may escape
ROW_BYTES, UNPACKED_ROW_BYTES = 2 << 10, 16 << 10  # of a row of the sample table at most
REWORDED = {
    "the training side is empty": "the train subset is empty"
}  # texts that cards keep, and the words for people


def card_digest(card: Mapping[str, Any]) -> str:
    """Return the digest of a card's content (sha256, hex)."""
    content = {key: card[key] for key in (*DIGESTED, *(key for key in OPTIONAL if key in card))}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def most_table_bytes(card: Mapping[str, Any]) -> int:
    """Return how many bytes the sample table of a card has at most."""
    return min(MOST_TABLE_BYTES, (1 << 20) + ROW_BYTES * int(card["samples"]["rows"]))


def rows_hash(table: pa.Table) -> str:
    """Return the hash of a table's rows (sha256, hex): of each row's values as a JSON list and a line end.

    It is a function of the values, not of the bytes of a Parquet file, which depend on the version of pyarrow.
    Columns are of texts and whole numbers.
    """
    return _hash_of(table.to_batches(ROWS_AT_ONCE))


def _hash_of(batches: Iterable[pa.RecordBatch]) -> str:
    hasher = hashlib.sha256()
    for batch in batches:
        rows = pc.binary_join_element_wise(*map(_json_texts, batch.columns), text(","))
        lines = pc.binary_join_element_wise(text("["), rows, text("]\n"), text(""))
        _, offsets, content = lines.buffers()
        ends = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
        hasher.update(memoryview(content)[ends[0] : ends[-1]])
    return hasher.hexdigest()


def _json_texts(column: pa.Array) -> pa.Array:
    """Return the values of a column as JSON."""
    if not pa.types.is_string(column.type):
        found = column.cast(pa.string())
    elif pc.any(pc.match_substring_regex(column, NOT_PLAIN)).as_py():
        found = texts(None if each is None else canonical_json(each).decode() for each in column.to_pylist())
    else:
        found = pc.binary_join_element_wise(text('"'), column, text('"'), text(""))
    return found.fill_null(text("null"))


def why_no_anchors(card: Mapping[str, Any]) -> str | None:
    """Return why a dataset has no anchors, in words for messages; None if it has them."""
    reason = card["anchors"].get("absent")
    return REWORDED.get(reason, reason)


def read_table(folder: Path, card: Mapping[str, Any]) -> bytes:
    """Return the bytes of the sample table in a folder; DatasetError where it cannot be read."""
    path = folder / SAMPLES
    try:
        return read_at_most(path, most_table_bytes(card))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None


def parse_samples(
    content: bytes, card: Mapping[str, Any], where: object, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the sample table in the bytes `content`, or some of its columns; `where` names the dataset.

    Raises DatasetError where it is not the table that the card describes.
    """
    require_file(content, card, where)
    hashed = card["samples"]["columns"]
    found = list(table_batches(content, card, where, None if columns is None else hashed))
    table = pa.Table.from_batches(found)
    if (problem := rows_differ(table.select(hashed).to_batches(ROWS_AT_ONCE), card, where)) is not None:
        raise DatasetError(problem)
    return table if columns is None else table.select(columns)


def require_file(content: bytes, card: Mapping[str, Any], where: object) -> None:
    """Raise DatasetError where these are not the bytes of the card's sample table."""
    if hashlib.sha256(content).hexdigest() != card["samples_file"]["sha256"]:
        raise DatasetError(f"{where}/{SAMPLES}: damaged, or of another dataset: its sha256 differs from the card")


def rows_differ(batches: Iterable[pa.RecordBatch], card: Mapping[str, Any], where: object) -> str | None:
    """Return what is wrong where the rows, of the columns that the digest covers, are not those of the digest."""
    if _hash_of(batches) == card["samples"]["sha256"]:
        return None
    return f"{where}/{SAMPLES}: its rows are not those of the digest: ids, labels or subsets were changed"


def table_batches(
    content: bytes, card: Mapping[str, Any], where: object, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a sample table in parts, all columns or some; their hash is compared by `rows_differ`.

    There is at least one part. Raises DatasetError where columns or the number of rows differ from the card.
    """
    path, expected = f"{where}/{SAMPLES}", card["samples"]
    most = min((16 << 20) + UNPACKED_ROW_BYTES * expected["rows"], MOST_BYTES)
    raw = card.get("provenance", {}).get("columns", [])

    def check(schema: pa.Schema) -> None:
        if schema.names != [*expected["columns"], *raw]:
            raise DatasetError(f"{path}: its columns differ from the card")
        if (wrong := why_no_table(schema)) is not None:
            raise DatasetError(f"{path}: {wrong}")
        if lacking := [name for name in columns or () if name not in schema.names]:
            raise DatasetError(f"{path}: has no column {lacking[0]}")

    try:
        for batch in parquet_batches(content, columns, rows=expected["rows"], most=most, check=check):
            batch.validate(full=True)
            yield batch
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read: {shown(error)}") from None


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of the dataset in a folder; DatasetError where there is none or `parse_card` refuses it."""
    path = folder / CARD
    try:
        content = read_at_most(path, MOST_READ)
    except FileNotFoundError:
        raise DatasetError(
            f"{folder}: no {CARD} here: not a dataset, or one that prepare did not finish"
        ) from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_card(content, folder)


def parse_card(content: bytes, where: object) -> dict[str, Any]:
    """Return the card in the bytes `content`; `where` names the dataset in messages.

    Raises DatasetError where it is not a card, is of another version, or was edited.
    """
    try:
        card: dict[str, Any] = json.loads(content, parse_constant=_no_number, object_pairs_hook=unique_keys)
        name, version = card["format"]["name"], card["format"]["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DatasetError(f"{where}/{CARD}: is not the card of a skelpipe dataset") from None
    if name != FORMAT["name"] or type(version) is not int or version not in VERSIONS:
        read = f"{', '.join(map(str, VERSIONS[:-1]))} and {VERSIONS[-1]}"
        shown = name if name == FORMAT["name"] else described(name)
        raise DatasetError(f"{where}/{CARD}: format {shown} {described(version)}; this skelpipe reads {read}")
    if missing := [key for key in (*DIGESTED, *UNDIGESTED) if key not in card]:
        raise DatasetError(f"{where}/{CARD}: the key {missing[0]!r} is missing: it was changed after prepare")
    if card.get("digest") != card_digest(card):
        raise DatasetError(f"{where}/{CARD}: its digest does not match its content: it was changed after prepare")
    # It imports pydantic, which commands that only write do not need.
    from skelpipe.dataset.card_schema import why_no_card

    if (problem := why_no_card(card)) is not None:
        raise DatasetError(f"{where}/{CARD}: {problem}")
    return card


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")
