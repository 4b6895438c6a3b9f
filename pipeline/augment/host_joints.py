"""What changes some joints only, on a CPU, one clip after another: kernels as those of `host`."""

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.host import arrays, expect, kernel

__all__ = ["fill_boxes", "paste", "zero_joints"]


def zero_joints(x: Tensor, joints: Tensor, first: Tensor, length: Tensor) -> None:
    """Set `joints`, bool[N,V], of contiguous clips [N,C,T,V,M] to 0, in place.

    In `length` frames from `first` on, int64[N].
    """
    expect(x, (joints, "nv"), (first, "n"), (length, "n"))
    _zero_joints(*arrays(x, joints, first, length))


def fill_boxes(x: Tensor, joints: Tensor, start: Tensor, pool: Tensor) -> None:
    """Replace `joints`, int64[N,k], of contiguous clips [N,C,T,V,M] by pool[start[n]:] scaled to the person's box.

    The numbers are in the order [C,T,k,M]. Raises IndexError for joints that are not there, or where the pool ends
    too early.
    """
    expect(x, (joints.sum(1), "n"), (start, "n"))
    if not _fill_boxes(*arrays(x, joints, start, pool)):
        raise IndexError(f"clips of {tuple(x.shape)} lack a joint to fill, or the pool lacks numbers")


def paste(x: Tensor, donor: Tensor, region: Tensor) -> Tensor:
    """Return clips [N,C,T,V,M] with those numbered `donor`, int64[N], where `region`, bool[N,T,V], is true.

    Raises IndexError for a donor that is not in the batch.
    """
    x = x.contiguous()
    n, c, t, v, m = expect(x, (donor, "n"), (region, "ntv"))
    y = torch.empty_like(x)
    rows = (z.view(torch.int32).view(n, c, t, v * m) for z in (y, x))  # words: a choice of bits needs no branch
    if not _paste(m, *arrays(*rows, donor, region)):
        raise IndexError(f"a batch of {n} clips does not hold every donor")
    return y


@kernel
def _zero_joints(x: np.ndarray, joints: np.ndarray, first: np.ndarray, length: np.ndarray) -> None:
    clips, axes, frames, count, bodies = x.shape
    for n in range(clips):
        for v in range(count):
            if not joints[n, v]:
                continue
            for c in range(axes):
                for t in range(max(first[n], 0), min(first[n] + length[n], frames)):
                    for m in range(bodies):
                        x[n, c, t, v, m] = 0


@kernel
def _fill_boxes(x: np.ndarray, joints: np.ndarray, start: np.ndarray, pool: np.ndarray) -> bool:
    clips, axes, frames, count, bodies = x.shape
    replaced = joints.shape[1]
    low, size = np.empty(axes, np.float32), np.empty(axes, np.float32)
    for n in range(clips):
        if start[n] < 0 or start[n] + axes * frames * replaced * bodies > len(pool):
            return False
        for k in range(replaced):
            if joints[n, k] < 0 or joints[n, k] >= count:
                return False
        for t in range(frames):
            for m in range(bodies):
                total = np.float32(0)
                for c in range(axes):
                    least = most = x[n, c, t, 0, m]
                    along = np.float32(0)
                    for v in range(count):
                        number = x[n, c, t, v, m]
                        along += number
                        least, most = min(least, number), max(most, number)
                    total += along
                    low[c], size[c] = least, most - least
                if total == 0:
                    continue
                for c in range(axes):
                    for k in range(replaced):
                        unit = pool[start[n] + ((c * frames + t) * replaced + k) * bodies + m]
                        x[n, c, t, joints[n, k], m] = low[c] + unit * size[c]
    return True


@kernel
def _paste(bodies: int, y: np.ndarray, x: np.ndarray, donor: np.ndarray, region: np.ndarray) -> bool:
    clips, axes, frames, width = x.shape
    wide = np.zeros(width, np.int32)  # all bits set in the joints, of all bodies, that this frame's region has
    for n in range(clips):
        if donor[n] < 0 or donor[n] >= clips:
            return False
        for t in range(frames):
            for v in range(region.shape[2]):
                bits = -np.int32(region[n, t, v])
                for i in range(v * bodies, v * bodies + bodies):
                    wide[i] = bits
            for c in range(axes):
                mixed, own, other = y[n, c, t], x[n, c, t], x[donor[n], c, t]
                for i in range(width):
                    mixed[i] = own[i] ^ ((own[i] ^ other[i]) & wide[i])
    return True
