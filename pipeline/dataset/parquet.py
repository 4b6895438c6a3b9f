"""Parquet files read on the caller's own thread."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["read_parquet"]


def read_parquet(content: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in a file's bytes, with its metadata; OSError or pa.ArrowException where it is damaged.

    `pq.read_table` would give the bytes to threads of its own. A thread that releases them while the interpreter
    ends crashes the process, with exit code 134 after all work was done. It also imports pandas if that is
    installed.
    """
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)
