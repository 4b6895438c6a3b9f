"""Reader of recordings saved as .npy arrays: [T,V,C] for one body, or [T,M,V,C]; C is 2 or 3."""

import io
import math
import tokenize

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.recording import Recording

__all__ = ["read_npy"]

AXES = 3
ONE_BODY, MANY_BODIES = 3, 4  # axes of the array
NUMBERS = "fiu"  # numpy's kinds: floats, integers, unsigned ones
HEADER = 1 << 14  # bytes; the header is shorter, as numpy refuses longer ones
VERSIONS = ((1, 0), (2, 0), (3, 0))
UNREADABLE = (ValueError, TypeError, SyntaxError, tokenize.TokenError, OverflowError, RecursionError, MemoryError)


def read_npy(text: np.ndarray, name: str, joints: int) -> Recording:
    """Read the bytes of an .npy file, uint8 [n+1]: the content and one byte that the caller adds.

    The array holds floats or integers; 2D positions get z = 0. A body whose values are all zero or all NaN is
    absent in that frame. Bodies keep their slots: an absent body before a present one is listed as zeros. The ids
    are the slots, from 0. Pickled objects are never loaded. Raises RawError that names the file, and frame, body
    and joint (from 1) where a value is not finite.
    """
    array = _array(text[:-1], name)
    if array.dtype.kind not in NUMBERS:
        raise RawError(f"{name}: an array of floats or integers is expected, found {array.dtype}")
    if array.ndim not in (ONE_BODY, MANY_BODIES) or array.shape[-1] not in (2, AXES):
        raise RawError(
            f"{name}: an array [frames,joints,2 or 3] or [frames,bodies,joints,2 or 3] is expected,"
            f" found the shape {list(array.shape)}"
        )
    if array.shape[-2] != joints:
        raise RawError(f"{name}: {joints} joints are expected, found {array.shape[-2]}, shape {list(array.shape)}")
    if array.size == 0:
        raise RawError(f"{name}: the array is empty, shape {list(array.shape)}")
    if array.ndim == ONE_BODY:
        array = array[:, None]
    frames, bodies, _, axes = array.shape
    xyz = np.zeros((frames, bodies, joints, AXES))
    with np.errstate(over="ignore", invalid="ignore"):  # a float beyond 64 bits becomes infinite: refused below
        xyz[..., :axes] = array
    known = xyz[..., :axes]
    known[np.isnan(known).all(axis=(2, 3))] = 0
    _refuse_infinite(known, name)
    present = np.any(known, axis=(2, 3))
    behind = np.logical_or.accumulate(present[:, ::-1], axis=1)
    listed = behind[:, ::-1]  # every slot up to the last one in use
    return Recording(listed.sum(axis=1, dtype=np.int32), np.nonzero(listed)[1], xyz[listed])


def _refuse_infinite(xyz: np.ndarray, name: str) -> None:
    finite = np.isfinite(xyz).all(axis=3)
    if finite.all():
        return
    frame, body, joint = np.argwhere(~finite)[0]
    where = f"{name}: frame {frame + 1}, body {body + 1}, joint {joint + 1}"
    raise RawError(f"{where}: {xyz[frame, body, joint].tolist()} holds a value that is not finite")


def _array(content: np.ndarray, name: str) -> np.ndarray:
    """Return the array of an .npy file, a view of the file's bytes."""
    if len(content) == 0:
        raise RawError(f"{name}: the file is empty")
    file = io.BytesIO(bytes(content[:HEADER]))
    try:
        version = np.lib.format.read_magic(file)
        if version not in VERSIONS:
            raise ValueError(f"its version {version} is unknown")
        # Version 3 differs from 2 only in the spelling of field names, and arrays with fields are refused.
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(file)
    except UNREADABLE as error:
        raise RawError(f"{name}: no .npy file, or one that is damaged: {_first_line(error)}") from None
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
        raise RawError(f"{name}: no .npy file, or one that is damaged: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
