"""The mean training clip of a view, in an .npy file of which nothing is believed before it is compared."""

import io
import math
import tokenize
import warnings
from collections.abc import Sequence

import numpy as np

from skelpipe.errors import DatasetError
from skelpipe.untrusted import shown

__all__ = ["most_anchor_bytes", "read_anchor"]

HEADER = 1 << 12  # bytes; numpy writes far fewer
LARGEST = 8  # bytes of a number
UNREADABLE = (ValueError, TypeError, SyntaxError, tokenize.TokenError, OverflowError, RecursionError, MemoryError)


def most_anchor_bytes(shape: Sequence[int]) -> int:
    """Return how many bytes the file of an anchor [C,T,V,M] has at most."""
    return HEADER + LARGEST * math.prod(shape)


def read_anchor(content: bytes, shape: Sequence[int], where: str) -> np.ndarray:
    """Return the anchor [C,T,V,M] in the bytes of a file; DatasetError, beginning with `where`, where it is none.

    `numpy.load` would first make an array as large as the file says it is.
    """
    file = io.BytesIO(content[:HEADER])
    try:
        with (
            warnings.catch_warnings()
        ):  # numpy's words on headers of Python 2, and Python's on odd numbers in them
            warnings.simplefilter("ignore")
            if np.lib.format.read_magic(file) == (1, 0):
                found, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                found, by_columns, dtype = np.lib.format.read_array_header_2_0(file)
    except UNREADABLE as error:
        raise DatasetError(f"{where}: cannot be read: {shown(error)}") from None
    if tuple(found) != tuple(shape):
        raise DatasetError(f"{where}: shape {shown(found)}, the card says {tuple(shape)}")
    size = file.tell() + math.prod(shape) * dtype.itemsize
    if dtype.kind != "f" or dtype.itemsize > LARGEST or len(content) != size:
        raise DatasetError(f"{where}: {len(content):,} bytes of {shown(dtype)}, floats of {size:,} are expected")
    numbers = np.frombuffer(content, dtype, offset=file.tell())
    anchor = numbers.reshape(shape[::-1]).T if by_columns else numbers.reshape(shape)
    return anchor.copy()
