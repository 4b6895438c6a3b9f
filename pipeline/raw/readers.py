"""The file formats by the name that a manifest gives them."""

from collections.abc import Callable

import numpy as np

from skelpipe.raw.msr import read_msr
from skelpipe.raw.npy import read_npy
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.pku import read_pku
from skelpipe.raw.recording import Recording

__all__ = ["READERS"]

# The values of a manifest's key `reader`. Each reader takes the bytes of a file (as `TextBuffer` returns them),
# the file's name for error messages, and the number of joints.
READERS: dict[str, Callable[[np.ndarray, str, int], Recording]] = {
    "ntu-skeleton": read_skeleton,
    "pku-text": read_pku,
    "msr-text": read_msr,
    "npy": read_npy,
}
