"""Recordings in arrays of a fixed number of frames: what is beyond a recording's end is zeros."""

import numpy as np

from skelpipe.raw.axes import recorded
from skelpipe.raw.form import Form
from skelpipe.raw.recording import Recording

__all__ = ["one_of", "padded_recording"]


def one_of(array: np.ndarray, axes: tuple[str, ...], position: int) -> np.ndarray:
    """Return one sample of an array whose axes have these letters (N, T, V, C and perhaps M) as [T,M,V,C]."""
    one = array[(slice(None),) * axes.index("N") + (position,)]
    left = [axis for axis in axes if axis != "N"]
    if "M" not in left:
        one, left = one[..., None], [*left, "M"]
    return one.transpose([left.index(axis) for axis in ("T", "M", "V", "C")])


def padded_recording(array: np.ndarray, form: Form, name: str) -> Recording:
    """Return an array [T,M,V,C] as a recording, read as `recorded` does.

    If the form says `padded`, its length is that of the last frame that is not zero. A joint whose coordinates and
    score all are zero was not found: pose estimators write it so.
    """
    if form.padded:
        shown = np.flatnonzero(np.any(array, axis=(1, 2, 3)))
        array = array[: shown[-1] + 1 if len(shown) else 0]
    if "score" in form.channels:
        lost = ~np.any(array, axis=3)
        if lost.any():
            array = array.astype(np.result_type(array.dtype, np.float16))
            array[lost] = np.nan
    return recorded(array, form, name)
