"""Values for pyarrow, made without pandas, which pyarrow imports, if it is installed, to convert plain values.

That takes a third of a second, more than what is done with them.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

__all__ = ["text", "texts", "whole"]


def texts(values: Iterable[str | None]) -> pa.StringArray:
    """Return texts, or nulls, as an array."""
    builder = pa.lib.StringBuilder()
    builder.append_values(list(values))
    return builder.finish()


def text(value: str) -> pa.StringScalar:
    """Return one text as a scalar."""
    return texts([value])[0]


def whole(value: int) -> pa.Int64Scalar:
    """Return a whole number as a scalar."""
    return pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer(np.array([value], np.int64))])[0]
