"""Recordings in arrays of a fixed number of frames: what is beyond a recording's end is zeros."""

import numpy as np

from skelpipe.raw.axes import recorded
from skelpipe.raw.form import Form
from skelpipe.raw.recording import Recording

__all__ = ["padded_recording"]


def padded_recording(array: np.ndarray, form: Form, name: str) -> Recording:
    """Return an array [T,M,V,C] as a recording, read as `recorded` does.

    If the form says `padded`, its length is that of the last frame that is not zero.
    """
    if form.padded:
        shown = np.flatnonzero(np.any(array, axis=(1, 2, 3)))
        array = array[: shown[-1] + 1 if len(shown) else 0]
    return recorded(array, form, name)
