"""Random generators that depend only on their purpose and key, never on earlier draws."""

from enum import IntEnum

import numpy as np

__all__ = ["Draw", "generator"]


class Draw(IntEnum):
    """The purpose of a generator. The bytes of recordings depend on the numbers: never give one a new meaning."""

    ACTION = 1
    SUBJECT = 2
    SETUP = 3
    PERFORMANCE = 4
    CAMERA = 5
    FILE = 6
    LABEL = 7
    ORDER = 8


def generator(seed: int, draw: Draw, *key: int) -> np.random.Generator:
    """Return the generator of a purpose and a `key` of non-negative integers; equal arguments give equal draws."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(draw), *key])))
