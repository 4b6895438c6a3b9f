"""The module that the fork server of the workers imports once: it loads everything that writing a shard needs.

The first call of compiled code imports half of numba; that takes half a second, which each worker would repeat.
"""

import numpy as np

from skelpipe.prepare.shard_writer import ShardJob
from skelpipe.raw.ntu import read_skeleton

__all__ = ["ShardJob"]

read_skeleton(np.frombuffer(b"1\n0\n\n", np.uint8), "a recording of one empty frame")
