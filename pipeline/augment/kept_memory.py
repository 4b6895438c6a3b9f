"""Memory of large tensors that is used again at the same address: batches then stay in the processor's cache.

What the allocator of the process frees is given to whoever asks next, so that batch after batch comes to lie
elsewhere.
"""

import weakref
from collections import deque
from collections.abc import Sequence
from math import prod
from typing import Final

import numpy as np
import torch
from torch import Tensor

__all__ = ["kept_empty"]

LEAST: Final = 1 << 18  # numbers of a tensor: smaller ones lie in the cache of a core wherever they are
MOST: Final = 8  # blocks of one size that are kept while nobody uses them
SIZES: Final = 8  # of which blocks are kept

_free: dict[int, deque[np.ndarray]] = {}


def kept_empty(shape: Sequence[int]) -> Tensor:
    """Return a float32 tensor of this shape, its numbers undefined, in the memory of one that is gone, if any.

    Its memory is kept for the next one when nothing refers to it any more. As every tensor made from an array, it
    cannot be resized in place.
    """
    size = prod(shape)
    if size < LEAST:
        return torch.empty(tuple(shape))
    free = _free.get(size)
    if free is None:
        if len(_free) >= SIZES:
            _free.clear()
        free = _free.setdefault(size, deque(maxlen=MOST))  # of another thread, where that was faster
    try:
        block = free.pop()  # the one used last
    except IndexError:
        block = torch.empty(size).numpy()
    view = block[:]
    weakref.finalize(view, free.append, block).atexit = False
    return torch.from_numpy(view).view(tuple(shape))
