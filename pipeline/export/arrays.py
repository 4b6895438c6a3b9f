"""Arrays written as streams: a header, then one block after another, into an open file."""

from collections.abc import Iterable
from typing import IO

import numpy as np

__all__ = ["padded", "write_blocks"]


def write_blocks(file: IO[bytes], shape: tuple[int, ...], dtype: str, blocks: Iterable[np.ndarray]) -> None:
    """Write an array of `shape` and `dtype` in npy format; `blocks` are its rows in order."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for block in filter(np.size, blocks):
        file.write(np.ascontiguousarray(block, np.dtype(dtype)).data.cast("B"))


def padded(clips: np.ndarray, frames: int, axis: int) -> np.ndarray:
    """Return clips with zeros at the end of `axis`, the frames, so that there are at least `frames`."""
    missing = frames - clips.shape[axis]
    if missing <= 0:
        return clips
    widths = [(0, 0)] * clips.ndim
    widths[axis] = (0, missing)
    return np.pad(clips, widths)
