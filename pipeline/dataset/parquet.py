"""Parquet files read on the caller's own thread."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["read_parquet"]


def read_parquet(content: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in a file's bytes, with its metadata; OSError or pa.ArrowException where it is damaged.

    `pq.read_table` would hand the bytes to threads of its own: one that lets go of them while the interpreter ends
    takes the process down, exit code 134 after all was done. It also imports pandas where there is one.
    """
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)
