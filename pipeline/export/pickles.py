"""Pickles of plain things, written as a stream: numbers, texts, lists, dicts and arrays, for any version of numpy.

The opcodes are those of Lib/pickletools.py, protocol 3. Objects are written without a memo, so that parts can
follow each other and nothing has to be in memory but the part being written.
"""

import pickle
import struct
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import IO, Any

import numpy as np

__all__ = ["START", "STOP", "TUPLE2", "array_part", "dict_part", "part", "write_pickle"]

PROTOCOL = 3
START, STOP = b"\x80" + bytes([PROTOCOL]), b"."
MARK, EMPTY_DICT, EMPTY_LIST, APPENDS, SETITEMS = b"(", b"}", b"]", b"e", b"u"
TUPLE, TUPLE2, TUPLE3, REDUCE, BUILD, FALSE = b"t", b"\x86", b"\x87", b"R", b"b", b"\x89"
# The name that numpy 1 has for it, and numpy 2 keeps for pickles.
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
DTYPE = b"cnumpy\ndtype\n"


def write_pickle(file: IO[bytes], lists: Mapping[str, Any], name: str, items: Iterable[bytes]) -> None:
    """Write a dict of `lists`, plain things by name, and of the list `name`, whose items are parts."""
    file.write(START + EMPTY_DICT + MARK)
    for key, value in lists.items():
        file.write(part(key) + part(value))
    file.write(part(name) + EMPTY_LIST)
    for item in items:
        file.write(MARK + item + APPENDS)
    file.write(SETITEMS + STOP)


def dict_part(items: Mapping[str, bytes]) -> bytes:
    """Return the opcodes of a dict with these parts as values."""
    return EMPTY_DICT + MARK + b"".join(part(key) + value for key, value in items.items()) + SETITEMS


def part(value: Any) -> bytes:
    """Return the opcodes of numbers, texts, None, and tuples, lists and dicts of them."""
    file = BytesIO()
    pickler = pickle.Pickler(file, PROTOCOL)
    pickler.fast = True  # no memo
    pickler.dump(value)
    return file.getvalue()[len(START) : -len(STOP)]


def array_part(array: np.ndarray) -> bytes:
    """Return the opcodes of an array of numbers."""
    array = np.asarray(array, order="C")
    kind = part(array.dtype.str[1:]) + part(False) + part(True) + TUPLE3
    order = MARK + part(3) + part(array.dtype.str[0]) + part(None) * 3 + part(-1) * 2 + part(0) + TUPLE + BUILD
    head = RECONSTRUCT + part((0,)) + _bytes(b"b") + TUPLE3 + REDUCE
    state = part(1) + part(array.shape) + DTYPE + kind + REDUCE + order + FALSE + _bytes(array.tobytes())
    return head + MARK + state + TUPLE + BUILD


def _bytes(content: bytes) -> bytes:
    """Return the opcodes of bytes, BINBYTES."""
    return b"B" + struct.pack("<I", len(content)) + content
