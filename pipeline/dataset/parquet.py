"""Parquet files read on the caller's own thread, within bounds: a few bytes of one can stand for many rows."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skelpipe.untrusted import described

__all__ = ["MOST_BYTES", "parquet_batches", "read_parquet"]

MOST_BYTES = 4 << 30  # of a table in memory
MOST_COLUMNS = 1000
ROWS = 1 << 16  # read at a time


def read_parquet(
    content: bytes, columns: Sequence[str] | None = None, *, rows: int | None = None, most: int = MOST_BYTES
) -> pa.Table:
    """Return the table in a file's bytes, with its metadata; OSError or pa.ArrowException where it is damaged.

    pa.ArrowInvalid also where it has another number of rows than `rows` or than it says, or more than `most` bytes
    in memory. That is noticed before they are there: texts are kept once each until their sum is known.

    `pq.read_table` would give the bytes to threads of its own. A thread that releases them while the interpreter
    ends crashes the process, with exit code 134 after all work was done. It also imports pandas if that is
    installed.
    """
    return pa.Table.from_batches(parquet_batches(content, columns, rows=rows, most=most))


def parquet_batches(
    content: bytes,
    columns: Sequence[str] | None = None,
    *,
    rows: int | None = None,
    most: int = MOST_BYTES,
    check: Callable[[pa.Schema], None] = lambda _: None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file in parts, at least one; raises as `read_parquet`, and as `check` of the schema."""
    try:
        yield from _batches(content, columns, rows, most, check)
    except UnicodeDecodeError as error:  # a name in the schema
        raise pa.ArrowInvalid(f"its schema holds a name that is no UTF-8 text: {error}") from None


def _batches(
    content: bytes,
    columns: Sequence[str] | None,
    rows: int | None,
    most: int,
    check: Callable[[pa.Schema], None],
) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(pa.BufferReader(content)) as plain:
        schema = plain.schema_arrow
        _refuse_unless(len(schema.names) <= MOST_COLUMNS, f"it has {len(schema.names):,} columns")
        check(schema)
        (name, count), *_ = Counter(schema.names).most_common(1) or [("", 0)]
        _refuse_unless(count < 2, f"it has {count} columns named {described(name)}")
        wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        if columns is None:
            wanted = wanted.with_metadata(schema.metadata)
        listed = plain.metadata.num_rows
        _refuse_unless(rows is None or listed == rows, f"{listed:,} rows")
        groups = (plain.metadata.row_group(number) for number in range(plain.metadata.num_row_groups))
        _refuse_unless(
            sum(group.total_byte_size for group in groups) <= most, f"more than {most:,} bytes unpacked"
        )
    texts = [field.name for field in wanted if _is_text(field.type)]
    with pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts) as file:
        read = held = 0
        for batch in file.iter_batches(ROWS, columns=wanted.names, use_threads=False):
            for column in batch.columns:
                if _is_text(column.type) or pa.types.is_dictionary(column.type):
                    column.validate(full=True)  # texts are UTF-8, which pyarrow takes for granted
            held += sum(_unpacked(column) for column in batch.columns)
            _refuse_unless(held <= most, f"more than {most:,} bytes unpacked")
            arrays = [
                column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
                for column in batch.columns
            ]
            by_name = dict(zip(batch.schema.names, arrays, strict=True))
            read += len(batch)
            yield pa.record_batch([by_name[field.name].cast(field.type) for field in wanted], schema=wanted)
    if not read:
        yield pa.record_batch([pa.array([], field.type) for field in wanted], schema=wanted)
    _refuse_unless(read == listed, f"{read:,} rows, where it says {listed:,}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _unpacked(column: pa.Array) -> int:
    """Return the bytes of a column once each of its texts stands where it is used."""
    if not isinstance(column, pa.DictionaryArray):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary).cast(pa.int64())
    return int(pc.sum(pc.take(lengths, column.indices)).as_py() or 0) + 4 * len(column)


def _refuse_unless(fine: bool, found: str) -> None:
    if not fine:
        raise pa.ArrowInvalid(found)
