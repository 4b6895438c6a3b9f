"""The most expensive steps on a CPU, one clip after another: a clip fits in the cache, a batch does not.

Kernels of numba, compiled once and cached on disk; they release the GIL and use one core. They do what the torch
code of their callers does, up to rounding, where `usable` allows it; other devices and gradients use the torch
code.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skelpipe.dataset.mapped_clips import MappedClips
from skelpipe.kernels import njit
from skelpipe.views import POSITIONS

__all__ = ["add_noise", "arrays", "blur", "expect", "interpolate", "kernel", "mix", "scale_axes", "usable"]

ROWS = 16  # of a clip, whose weights of noise are kept

# Multiply-adds may be fused. Sums keep the order in which they are written.
kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


def usable(*tensors: Tensor) -> bool:
    """Return whether the kernels can take these tensors: float32 on a CPU, no gradients asked for."""
    if torch.compiler.is_compiling():
        return False
    return all(t.device.type == "cpu" and t.dtype == torch.float32 and not t.requires_grad for t in tensors)


def mix(
    x: Tensor | MappedClips,
    matrix: Tensor,
    frames: Tensor | None,
    joints: Tensor | None,
    centre: Tensor | None = None,
    at_centre: Tensor | None = None,
) -> Tensor:
    """Return y[n,c,t,v] = sum over j of matrix[n,c,j] * x[n,j,frames[n,t],joints[n,v]] of clips [N,C,T,V,M].

    Channels beyond the axes x, y, z only change frames and joints. `matrix` is [N,3,3]; `frames` int64[N,T] and
    `joints` int64[N,V], None to keep them all. The joint centre[n] of x, int64[N], has the matrix `at_centre`
    instead, if that is given. Raises IndexError for a frame or joint that does not exist,
    ValueError for clips that have fewer than three axes.
    """
    n, c, t, v, m = x.shape
    if c < POSITIONS:
        raise ValueError(f"clips of three axes are mixed here, not of {c}")
    chosen = torch.arange(t).expand(n, t) if frames is None else frames
    y = torch.empty(x.shape)
    expect(y, (matrix, "naa"), (chosen, "nt"), *(() if joints is None else [(joints, "nv")]))
    order = torch.empty(n, 0, dtype=torch.int64) if joints is None else joints
    nowhere = torch.empty(0, dtype=torch.int64)
    around = (nowhere, matrix) if centre is None or at_centre is None else (centre, at_centre)
    expect(y, (around[1], "naa"), *([] if around[0] is nowhere else [(around[0], "n")]))
    how = arrays(y.view(n, c, t, v * m), matrix, chosen, order, *around)
    if isinstance(x, MappedClips):
        done = _mix_mapped(m, x.pieces, x.piece, x.start, *how)
    else:
        done = _mix(m, *arrays(x.reshape(n, c, t, v * m)), *how)
    if not done:
        raise IndexError(f"a frame or joint was chosen that clips of {tuple(x.shape)} do not have")
    return y


def add_noise(x: Tensor, scale: Tensor, start: Tensor, pool: Tensor, *, empty: bool) -> None:
    """Add scale[n] times pool[start[n]:] to the positions of contiguous clips [N,C,T,V,M] in place.

    Absent bodies get noise only if `empty`. `scale` is float32[N], `start` int64[N]. Raises IndexError where the
    pool ends too early.
    """
    n, c, t, v, m = expect(x, (scale, "n"), (start, "n"))
    rows = min(c, POSITIONS) * t
    if not _add_noise(m, empty, rows, *arrays(x.view(n, c * t, v * m), scale, start, pool)):
        raise IndexError(f"noise for clips of {tuple(x.shape)} begins too near the end of its pool")


def blur(x: Tensor, on: Tensor, weights: Tensor) -> None:
    """Convolve the positions of those contiguous clips [N,C,T,V,M] that are `on`, bool[N], in time and in place.

    `weights`, float32[N,2k+1], are symmetric; beyond both ends are zeros.
    """
    n, c, t, v, m = expect(x, (on, "n"), (weights[:, 0], "n"))
    _blur(v * m, *arrays(x.view(n, c, t * v * m), on, weights[:, weights.shape[1] // 2 :]))


def scale_axes(x: Tensor, weights: Tensor) -> None:
    """Multiply the axes of contiguous clips [N,C,T,V,M] by `weights`, float32[N,3], in place."""
    n, c, t, v, m = expect(x, (weights, "na"))
    _scale_axes(*arrays(x.view(n, c, t * v * m), weights))


def zero_joints(x: Tensor, joints: Tensor, first: Tensor, length: Tensor) -> None:
    """Set `joints`, bool[N,V], of contiguous clips [N,C,T,V,M] to 0, in place.

    In `length` frames from `first` on, int64[N].
    """
    expect(x, (joints, "nv"), (first, "n"), (length, "n"))
    _zero_joints(*arrays(x, joints, first, length))


def fill_boxes(x: Tensor, joints: Tensor, start: Tensor, pool: Tensor) -> None:
    """Replace `joints`, int64[N,k], of contiguous clips [N,C,T,V,M] by pool[start[n]:] scaled to the body's box.

    Scores stay. The pool's numbers are in the order [3,T,k,M]. Raises IndexError for joints that do not exist, or
    where the pool ends too early.
    """
    expect(x, (joints.sum(1), "n"), (start, "n"))
    if not _fill_boxes(*arrays(x, joints, start, pool)):
        raise IndexError(f"clips of {tuple(x.shape)} lack a joint to fill, or the pool lacks numbers")


def interpolate(x: Tensor, on: Tensor, first: Tensor, weights: Tensor) -> None:
    """Replace frame t of contiguous clips [N,C,T,V,M] by a sum of frames first[n,t] and the next, or the last.

    In place, in the clips that are `on`, bool[N]. `first` is int64[N,T]; `weights`, float32[2,N,T], are those of
    the two frames. Raises IndexError for frames that do not exist.
    """
    n, c, t, v, m = expect(x, (on, "n"), (first, "nt"), (weights[0], "nt"))
    if not _interpolate(*arrays(x.view(n, c, t, v * m), on, first, weights)):
        raise IndexError(f"a frame was chosen that clips of {tuple(x.shape)} do not have")


def scale_bones(x: Tensor, factor: Tensor, bones: Tensor) -> None:
    """Scale the bones of contiguous clips [N,C,T,V,M] in place; the joints beyond each move along.

    `factor`, float32[N,V], is that of the bone that ends in each joint; `bones`, int64[B,2], are (joint, parent),
    each after the one that ends in its parent. Raises IndexError for joints that do not exist.
    """
    n, c, t, v, m = expect(x, (factor, "nv"))
    if bones.numel() and not 0 <= int(bones.min()) <= int(bones.max()) < v:
        raise IndexError(f"clips of {tuple(x.shape)} lack a joint of the bones")
    rows = min(c, POSITIONS) * t
    _scale_bones(m, rows, *arrays(x.view(n, c * t, v * m), factor, bones))


def paste(x: Tensor, donor: Tensor, region: Tensor) -> Tensor:
    """Return clips [N,C,T,V,M] with those of the clips `donor`, int64[N], where `region`, bool[N,T,V], is true.

    Raises IndexError for a donor that is not in the batch.
    """
    x = x.contiguous()
    n, c, t, v, m = expect(x, (donor, "n"), (region, "ntv"))
    y = torch.empty_like(x)
    rows = (z.view(torch.int32).view(n, c, t, v * m) for z in (y, x))  # integers: choosing bits needs no branch
    if not _paste(m, *arrays(*rows, donor, region)):
        raise IndexError(f"a batch of {n} clips does not hold every donor")
    return y


def expect(x: Tensor, *others: tuple[Tensor, str]) -> tuple[int, ...]:
    """Return the shape of the clips `x`. The kernels themselves check no bounds.

    Raises ValueError unless the clips are contiguous and the others have the dimensions named, letters of "nctvm",
    or "a" for the axes.
    """
    sizes = dict(zip("nctvm", x.shape, strict=True)) | {"a": min(x.shape[1], POSITIONS)}
    for other, names in others:
        if other.shape != tuple(sizes[name] for name in names):
            raise ValueError(f"parameters of {tuple(other.shape)} do not fit clips of {tuple(x.shape)}")
    if not x.is_contiguous():
        raise ValueError("clips are changed in place only where they are contiguous")
    return tuple(x.shape)


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """Return the tensors as contiguous arrays: for others numba would compile a kernel again."""
    return [tensor.contiguous().numpy() for tensor in tensors]


@kernel
def _mix(
    bodies: int,
    x: np.ndarray,
    y: np.ndarray,
    matrix: np.ndarray,
    frames: np.ndarray,
    joints: np.ndarray,
    centre: np.ndarray,
    at_centre: np.ndarray,
) -> bool:
    width = y.shape[3]
    row, source = np.empty(width, np.float32), np.empty(width, np.int64)
    fits = True
    for n in range(len(y)):
        fits &= _mix_clip(
            bodies, x[n], y[n], matrix[n], frames[n], joints[n], centre[n:], at_centre[n], row, source
        )
    return fits


@kernel
def _mix_mapped(
    bodies: int,
    pieces: Any,
    piece: np.ndarray,
    start: np.ndarray,
    y: np.ndarray,
    matrix: np.ndarray,
    frames: np.ndarray,
    joints: np.ndarray,
    centre: np.ndarray,
    at_centre: np.ndarray,
) -> bool:
    channels, count, width = y.shape[1:]
    row, source = np.empty(width, np.float32), np.empty(width, np.int64)
    fits = True
    for n in range(len(y)):
        x = pieces[piece[n]][start[n] : start[n] + channels * count * width].reshape((channels, count, width))
        fits &= _mix_clip(bodies, x, y[n], matrix[n], frames[n], joints[n], centre[n:], at_centre[n], row, source)
    return fits


@kernel
def _mix_clip(
    bodies: int,
    x: np.ndarray,
    y: np.ndarray,
    a: np.ndarray,
    frames: np.ndarray,
    joints: np.ndarray,
    centre: np.ndarray,
    b: np.ndarray,
    row: np.ndarray,
    source: np.ndarray,
) -> bool:
    """`joints` is empty where they stay; the joint centre[0], if any, is mixed by `b`.

    `row` and `source` are memory for one frame and its source columns.
    """
    channels, count, width = x.shape
    special = centre[0] * bodies if len(centre) else 0
    apart = bodies if len(centre) else 0
    if special < 0 or special + apart > width:
        return False
    reordered = False
    for v in range(len(joints)):
        joint = joints[v]
        if joint < 0 or (joint + 1) * bodies > width:
            return False
        reordered |= joint != v
        for m in range(bodies):
            source[v * bodies + m] = joint * bodies + m
    for t in range(count):
        frame = frames[t]
        if frame < 0 or frame >= count:
            return False
        x0, x1, x2 = x[0, frame], x[1, frame], x[2, frame]
        y0, y1, y2 = y[0, t], y[1, t], y[2, t]
        for i in range(width):
            y0[i] = a[0, 2] * x2[i] + (a[0, 1] * x1[i] + a[0, 0] * x0[i])
            y1[i] = a[1, 2] * x2[i] + (a[1, 1] * x1[i] + a[1, 0] * x0[i])
            y2[i] = a[2, 2] * x2[i] + (a[2, 1] * x1[i] + a[2, 0] * x0[i])
        for i in range(special, special + apart):
            y0[i] = b[0, 2] * x2[i] + (b[0, 1] * x1[i] + b[0, 0] * x0[i])
            y1[i] = b[1, 2] * x2[i] + (b[1, 1] * x1[i] + b[1, 0] * x0[i])
            y2[i] = b[2, 2] * x2[i] + (b[2, 1] * x1[i] + b[2, 0] * x0[i])
        for c in range(POSITIONS, channels):  # scores
            kept, score = y[c, t], x[c, frame]
            for i in range(width):
                kept[i] = score[i]
        if reordered:
            for c in range(channels):
                mixed = y[c, t]
                for i in range(width):
                    row[i] = mixed[i]
                for i in range(width):
                    mixed[i] = row[source[i]]
    return True


@kernel
def _add_noise(
    bodies: int, empty: bool, rows: int, x: np.ndarray, scale: np.ndarray, start: np.ndarray, pool: np.ndarray
) -> bool:
    """The first `rows` rows of a clip are its positions."""
    clips, channels, width = x.shape
    size = min(rows, ROWS) * width
    weight = np.empty(size, np.float32)  # of the numbers of a few rows
    now = np.full(bodies, np.nan, np.float32)  # of each body, as `weight` has them
    for n in range(clips):
        if scale[n] == 0:
            continue
        if start[n] < 0 or start[n] + rows * width > len(pool):
            return False
        for m in range(bodies):
            here = scale[n] if empty or _any(x[n, :rows], m, bodies) else np.float32(0)
            if now[m] != here:
                now[m] = here
                for i in range(m, size, bodies):
                    weight[i] = here
        clip, field = x[n].reshape(channels * width), pool[start[n] : start[n] + rows * width]
        for first in range(0, rows * width, size):
            some, noise = clip[first : min(first + size, rows * width)], field[first : first + size]
            for i in range(len(some)):
                some[i] += weight[i] * noise[i]
    return True


@kernel
def _any(clip: np.ndarray, body: int, bodies: int) -> bool:
    for r in range(clip.shape[0]):
        for i in range(body, clip.shape[1], bodies):
            if clip[r, i] != 0:
                return True
    return False


@kernel
def _blur(width: int, x: np.ndarray, on: np.ndarray, weights: np.ndarray) -> None:
    """`weights` are those of the frame itself and of the frames 1, 2, ... away on both sides."""
    clips, channels, size = x.shape
    axes = min(channels, POSITIONS)
    margin = (weights.shape[1] - 1) * width
    padded = np.zeros(size + 2 * margin, np.float32)
    for n in range(clips):
        if not on[n]:
            continue
        taps = 0  # behind a weight of 0 all are 0
        while taps + 1 < weights.shape[1] and weights[n, taps + 1] != 0:
            taps += 1
        for c in range(axes):
            y, centre = x[n, c], padded[margin : margin + size]
            for i in range(size):
                centre[i] = y[i]
                y[i] *= weights[n, 0]
            k = 1
            while k + 2 <= taps:
                _add_taps(width, y, padded[margin - (k + 2) * width :], k, weights[n])
                k += 3
            while k <= taps:
                weight = weights[n, k]
                before = padded[margin - k * width : margin - k * width + size]
                after = padded[margin + k * width : margin + k * width + size]
                for i in range(size):
                    y[i] += weight * (before[i] + after[i])
                k += 1


@kernel
def _add_taps(width: int, y: np.ndarray, x: np.ndarray, k: int, weights: np.ndarray) -> None:
    """Add the frames k, k + 1 and k + 2 away, in this order; `x` begins k + 2 frames before the first of `y`."""
    size = len(y)
    first, second, third = weights[k], weights[k + 1], weights[k + 2]
    before1, after1 = x[2 * width : 2 * width + size], x[2 * (k + 1) * width : 2 * (k + 1) * width + size]
    before2, after2 = x[width : width + size], x[(2 * k + 3) * width : (2 * k + 3) * width + size]
    before3, after3 = x[:size], x[2 * (k + 2) * width : 2 * (k + 2) * width + size]
    for i in range(size):
        total = y[i] + first * (before1[i] + after1[i])
        total = total + second * (before2[i] + after2[i])
        y[i] = total + third * (before3[i] + after3[i])


@kernel
def _scale_axes(x: np.ndarray, weights: np.ndarray) -> None:
    for n in range(x.shape[0]):
        for c in range(weights.shape[1]):
            if weights[n, c] != 1:
                for i in range(x.shape[2]):
                    x[n, c, i] *= weights[n, c]


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
    clips, channels, frames, count, bodies = x.shape
    axes = min(channels, POSITIONS)
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
def _interpolate(x: np.ndarray, on: np.ndarray, first: np.ndarray, weights: np.ndarray) -> bool:
    clips, channels, frames, width = x.shape
    before = np.empty((frames, width), np.float32)
    for n in range(clips):
        if not on[n]:
            continue
        for t in range(frames):
            if first[n, t] < 0 or first[n, t] >= frames:
                return False
        for c in range(channels):
            for t in range(frames):
                kept, frame = before[t], x[n, c, t]
                for i in range(width):
                    kept[i] = frame[i]
            for t in range(frames):
                one, other = before[first[n, t]], before[min(first[n, t] + 1, frames - 1)]
                y, p, q = x[n, c, t], weights[0, n, t], weights[1, n, t]
                for i in range(width):
                    y[i] = p * one[i] + q * other[i]
    return True


@kernel
def _scale_bones(bodies: int, rows: int, x: np.ndarray, factor: np.ndarray, bones: np.ndarray) -> None:
    """The first `rows` rows of a clip are its positions."""
    width = x.shape[2]
    count = len(bones) * bodies
    joint, parent = np.empty(count, np.int64), np.empty(count, np.int64)  # columns of a row, and of it as it was
    for b in range(len(bones)):
        for m in range(bodies):
            joint[b * bodies + m], parent[b * bodies + m] = bones[b, 0] * bodies + m, bones[b, 1] * bodies + m
    scale, before = np.empty(count, np.float32), np.empty(width, np.float32)
    for n in range(len(x)):
        for i in range(count):
            scale[i] = factor[n, joint[i] // bodies]
        for r in range(rows):
            row = x[n, r]
            for i in range(width):
                before[i] = row[i]
            for i in range(count):
                at, of = joint[i], parent[i]
                row[at] = row[of] + scale[i] * (before[at] - before[of])


@kernel
def _paste(bodies: int, y: np.ndarray, x: np.ndarray, donor: np.ndarray, region: np.ndarray) -> bool:
    clips, axes, frames, width = x.shape
    wide = np.zeros(width, np.int32)  # all bits set in the joints, of all bodies, in this frame's region
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
