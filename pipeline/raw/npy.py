"""Reader of recordings saved as .npy arrays, or as .npz files that hold one or a named one of them."""

import io
import math
import tokenize
import warnings
import zipfile
import zlib

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.axes import arranged, recorded
from skelpipe.raw.form import Form
from skelpipe.raw.recording import Recording
from skelpipe.untrusted import shown

__all__ = ["read_array", "read_array_or_archive", "read_npy"]

HEADER = 1 << 14  # bytes; the header is shorter, as numpy refuses longer ones
VERSIONS = ((1, 0), (2, 0), (3, 0))
UNREADABLE = (ValueError, TypeError, SyntaxError, tokenize.TokenError, OverflowError, RecursionError, MemoryError)
ARCHIVE = b"PK\x03\x04"
BROKEN = (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, ValueError, zlib.error)
IN_MANIFEST = "name one in the manifest as array"
MOST_BYTES = 1 << 30  # of one array


def read_npy(text: np.ndarray, name: str, form: Form) -> Recording:
    """Read the bytes of an .npy or .npz file, uint8 [n+1]: the content and one byte that the caller adds.

    The order of the axes is declared or proven (`skelpipe.raw.axes`), as is the meaning of the numbers per joint.
    Pickled objects are never loaded. Raises RawError that names the file, and frame, body and joint (from 1) where
    a value is infinite.
    """
    return recorded(arranged(read_array_or_archive(text[:-1], name, form.array), form, name), form, name)


def read_array_or_archive(content: np.ndarray, name: str, key: str = "", advice: str = IN_MANIFEST) -> np.ndarray:
    """Return the array in the bytes of an .npy file, or of an .npz file: the only one, or the one called `key`.

    Pickled objects are never loaded. Raises RawError that names the file; `advice` says how to name one of several
    arrays.
    """
    if bytes(content[:4]) == ARCHIVE:
        content = _member(content, key, name, advice)
    return read_array(content, name)


def _member(content: np.ndarray, key: str, name: str, advice: str) -> np.ndarray:
    """Return the bytes of one array of an .npz file: the only one, or the one called `key`."""
    try:
        with zipfile.ZipFile(io.BytesIO(content.tobytes())) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            known = ", ".join(sorted(members)) or "none"
            if key and key not in members:
                raise RawError(f"{name}: has no array {key!r}; it has: {shown(known)}")
            if not key and len(members) != 1:
                raise RawError(f"{name}: holds {len(members)} arrays: {advice}: {shown(known)}")
            info = members[key or next(iter(members))]
            if info.file_size > MOST_BYTES:
                raise RawError(f"{name}: {shown(info.filename)} says it holds {info.file_size} bytes: too many")
            with archive.open(info) as file:
                return np.frombuffer(file.read(info.file_size + 1), np.uint8)
    except BROKEN as error:
        raise RawError(f"{name}: no .npy or .npz file, or one that is damaged: {shown(error)}") from None


def read_array(content: np.ndarray, name: str, what: str = "file") -> np.ndarray:
    """Return the array of an .npy file, a view of the file's bytes; `what` they are is said in messages."""
    if len(content) == 0:
        raise RawError(f"{name}: the file is empty")
    file = io.BytesIO(bytes(content[:HEADER]))
    try:
        version = np.lib.format.read_magic(file)
        if version not in VERSIONS:
            raise ValueError(f"its version {version} is unknown")
        # Version 3 differs from 2 only in the spelling of field names, and arrays with fields are refused.
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with (
            warnings.catch_warnings()
        ):  # numpy's words on headers of Python 2, and Python's on odd numbers in them
            warnings.simplefilter("ignore")
            shape, by_columns, dtype = read(file)
    except UNREADABLE as error:
        raise RawError(f"{name}: no .npy {what}, or one that is damaged: {shown(error)}") from None
    if dtype.hasobject:
        raise RawError(f"{name}: the array holds Python objects, which are not loaded; save it as floats")
    offset, expected = file.tell(), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or len(content) - offset != expected:
        cut_off = " (cut off in download?)" if len(content) - offset < expected else ""
        raise RawError(
            f"{name}: {expected} bytes are expected for {dtype} of shape {list(shape)},"
            f" found {len(content) - offset}{cut_off}"
        )
    try:
        return np.ndarray(shape, dtype, content, offset, order="F" if by_columns else "C")
    except UNREADABLE as error:  # sizes or a number of axes beyond what numpy supports
        raise RawError(f"{name}: no .npy {what}, or one that is damaged: {shown(error)}") from None
