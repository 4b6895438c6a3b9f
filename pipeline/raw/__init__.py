"""Readers of raw recordings."""

from collections.abc import Callable

import numpy as np

from skelpipe.raw.msr import read_msr
from skelpipe.raw.npy import read_npy
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.pku import read_pku
from skelpipe.raw.recording import Recording

__all__ = ["READERS", "Recording"]

# What a manifest's `reader` may say. Each takes a file's bytes (see `TextBuffer`), its name, the joint count.
READERS: dict[str, Callable[[np.ndarray, str, int], Recording]] = {
    "ntu-skeleton": read_skeleton,
    "pku-text": read_pku,
    "msr-text": read_msr,
    "npy": read_npy,
}
