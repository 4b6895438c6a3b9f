"""What workers are forked from: imported once by the fork server, it loads all that writing a shard takes.

Compiled code brings half of numba along at its first call, half a second that every worker would spend again.
"""

import numpy as np

from skelpipe.prepare.shard_writer import ShardJob
from skelpipe.raw.ntu import read_skeleton

__all__ = ["ShardJob"]

read_skeleton(np.frombuffer(b"1\n0\n\n", np.uint8), "a recording of one empty frame")
