"""Random generators that depend on what is drawn, never on what was drawn before."""

from enum import IntEnum

import numpy as np

__all__ = ["Draw", "generator"]


class Draw(IntEnum):
    """What a generator is for. The numbers are part of the recordings' bytes: never give one a new meaning."""

    ACTION = 1
    SUBJECT = 2
    SETUP = 3
    PERFORMANCE = 4
    CAMERA = 5
    FILE = 6
    LABEL = 7
    ORDER = 8


def generator(seed: int, draw: Draw, *key: int) -> np.random.Generator:
    """Return the generator of one purpose and one `key` of non-negative integers; same arguments, same draws."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(draw), *key])))
