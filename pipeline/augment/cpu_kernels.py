"""The most expensive steps on a CPU, one clip after another: a clip fits in the cache, a batch does not.

Kernels of numba, compiled once and cached on disk; they release the GIL and use one core. They do what the torch
code of their callers does, up to rounding, where `usable` allows it; other devices and gradients use the torch
code.
"""

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.clip_kernels import (
    ROWS,
    blur_clip,
    fill_boxes_in,
    interpolate_clip,
    kernel,
    mix_clip,
    noise_clip,
    scale_axes_of,
    scale_bones_of,
    zero_joints_of,
)
from skelpipe.augment.kept_memory import kept_empty
from skelpipe.dataset.byte_kernels import numbers_at, prefetch_pages
from skelpipe.dataset.mapped_clips import MappedClips, addresses_of
from skelpipe.views import POSITIONS

__all__ = ["add_noise", "arrays", "blur", "expect", "interpolate", "kernel", "mix", "scale_axes", "usable"]

NONE = np.zeros(POSITIONS, np.bool_)  # of the axes are skipped


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
    kept = x if isinstance(x, MappedClips) else x.contiguous()  # as long as its addresses are used
    if not _mix(m, addresses_of(kept), *how):
        raise IndexError(f"a frame or joint was chosen that clips of {tuple(x.shape)} do not have")
    return y


def add_noise(x: Tensor, scale: Tensor, start: Tensor, pool: Tensor, *, empty: bool) -> None:
    """Add scale[n] times pool[start[n]:] to the positions of contiguous clips [N,C,T,V,M] in place.

    Absent bodies get noise only if `empty`. `scale` is float32[N], `start` int64[N]. Raises IndexError where the
    pool ends too early.
    """
    n, c, t, v, m = expect(x, (scale, "n"), (start, "n"))
    if not _add_noise(m, empty, *arrays(x.view(n, c, t, v * m), scale, start, pool)):
        raise IndexError(f"noise for clips of {tuple(x.shape)} begins too near the end of its pool")


def blur(x: Tensor, on: Tensor, weights: Tensor) -> None:
    """Convolve the positions of those contiguous clips [N,C,T,V,M] that are `on`, bool[N], in time and in place.

    `weights`, float32[N,2k+1], are symmetric; beyond both ends are zeros.
    """
    n, c, t, v, m = expect(x, (on, "n"), (weights[:, 0], "n"))
    _blur(*arrays(x.view(n, c, t, v * m), on, weights[:, weights.shape[1] // 2 :]))


def scale_axes(x: Tensor, weights: Tensor) -> None:
    """Multiply the axes of contiguous clips [N,C,T,V,M] by `weights`, float32[N,3], in place."""
    n, c, t, v, m = expect(x, (weights, "na"))
    _scale_axes(*arrays(x.view(n, c, t, v * m), weights))


def zero_joints(x: Tensor, joints: Tensor, first: Tensor, length: Tensor) -> None:
    """Set `joints`, bool[N,V], of contiguous clips [N,C,T,V,M] to 0, in place.

    In `length` frames from `first` on, int64[N].
    """
    n, c, t, v, m = expect(x, (joints, "nv"), (first, "n"), (length, "n"))
    _zero_joints(m, *arrays(x.view(n, c, t, v * m), joints, first, length))


def fill_boxes(x: Tensor, joints: Tensor, start: Tensor, pool: Tensor) -> None:
    """Replace `joints`, int64[N,k], of contiguous clips [N,C,T,V,M] by pool[start[n]:] scaled to the body's box.

    Scores stay. The pool's numbers are in the order [3,T,k,M]. Raises IndexError for joints that do not exist, or
    where the pool ends too early.
    """
    n, c, t, v, m = expect(x, (joints.sum(1), "n"), (start, "n"))
    if not _fill_boxes(m, *arrays(x.view(n, c, t, v * m), joints, start, pool)):
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
    _scale_bones(m, *arrays(x.view(n, c, t, v * m), factor, bones))


def paste(x: Tensor, donor: Tensor, region: Tensor) -> Tensor:
    """Return clips [N,C,T,V,M] with those of the clips `donor`, int64[N], where `region`, bool[N,S,V], is true.

    Each row of the region is that of T / S frames. Raises IndexError for a donor that is not in the batch.
    """
    x = x.contiguous()
    n, c, t, v, m = expect(x, (donor, "n"), (region[:, 0], "nv"))
    if t % region.shape[1]:
        raise ValueError(f"a region of {region.shape[1]} rows does not fit clips of {t} frames")
    y = kept_empty(x.shape)
    rows = (z.numpy().reshape(n, c, t, v * m).view(np.int32) for z in (y, x))  # choosing bits needs no branch
    if not _paste(m, *rows, *arrays(donor, region)):
        raise IndexError(f"a batch of {n} clips does not hold every donor")
    return y


def spans(
    chosen: Tensor, of: Tensor, first: Tensor, length: Tensor, steps: int, each: int
) -> tuple[Tensor, Tensor]:
    """Return where the joints v with chosen[n,of[v]] are, during `length` blocks from `first` on, as two masks.

    bool[N,steps/each,V] of the blocks and bool[N,steps,V] of their steps, `each` per block; steps after the last
    whole block are outside. `chosen` is bool[N,P]; `of` int64[V]; `first` and `length` int64[N]. Raises IndexError
    for a part that does not exist.
    """
    n, v = len(chosen), len(of)
    if not n == len(first) == len(length):
        raise ValueError(f"{n} rows of parts, {len(first)} starts and {len(length)} lengths do not fit")
    coarse, fine = np.empty((n, steps // each, v), np.bool_), np.empty((n, steps, v), np.bool_)
    flat = (mask.view(np.uint8).reshape(n, -1 if n else 0) for mask in (coarse, fine))
    if not _spans(each, *flat, *arrays(chosen, of, first, length)):
        raise IndexError(f"there are {chosen.shape[1]} parts, and a joint is of another one")
    return torch.from_numpy(coarse), torch.from_numpy(fine)


def reflected(start: Tensor, count: int) -> Tensor:
    """Return int64[N,count]: start[n], start[n] + 1, ..., reflected once at both ends of 0 .. count - 1."""
    frames = torch.empty(len(start), count, dtype=torch.int64)
    _reflect(*arrays(frames, start))
    return frames


def chosen(first: Tensor, then: Tensor) -> Tensor:
    """Return first[n,then[n,i]] of indices int64[N,T]. Raises IndexError for those that do not exist."""
    if len(first) != len(then):
        raise ValueError(f"{len(first)} and {len(then)} rows of indices do not fit")
    both = torch.empty_like(then, memory_format=torch.contiguous_format)
    if not _choose_again(*arrays(both, first, then)):
        raise IndexError(f"an index was chosen that rows of {first.shape[1]} do not have")
    return both


def product(second: Tensor, first: Tensor) -> Tensor:
    """Return second[n] @ first[n] of float32[N,3,3]."""
    both = torch.empty_like(first, memory_format=torch.contiguous_format)
    _multiply(*arrays(both, second, first))
    return both


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
    where: np.ndarray,
    y: np.ndarray,
    matrix: np.ndarray,
    frames: np.ndarray,
    joints: np.ndarray,
    centre: np.ndarray,
    at_centre: np.ndarray,
) -> bool:
    channels, count, width = y.shape[1:]
    size = channels * count * width
    row, words = np.empty(width, np.float32), np.empty(width // bodies, np.int64)
    fits = True
    for n in range(len(y)):
        if n + 1 < len(y):
            prefetch_pages(where[n + 1], 4 * size)
        x = numbers_at(where[n], size).reshape((channels, count, width))
        fits &= mix_clip(bodies, x, y[n], matrix[n], frames[n], joints[n], centre[n:], at_centre[n], row, words)
    return fits


@kernel
def _add_noise(
    bodies: int, empty: bool, x: np.ndarray, scale: np.ndarray, start: np.ndarray, pool: np.ndarray
) -> bool:
    clips, channels, count, width = x.shape
    numbers = min(channels, POSITIONS) * count * width
    weight, seen = np.empty(ROWS * width, np.float32), np.empty(width, np.int32)
    for n in range(clips):
        if scale[n] == 0:
            continue
        if start[n] < 0 or start[n] + numbers > len(pool):
            return False
        noise_clip(bodies, empty, x[n], scale[n], pool[start[n] : start[n] + numbers], NONE, weight, seen)
    return True


@kernel
def _blur(x: np.ndarray, on: np.ndarray, weights: np.ndarray) -> None:
    """`weights` are those of the frame itself and of the frames 1, 2, ... away on both sides."""
    _, _, count, width = x.shape
    padded = np.zeros((count + 2 * (weights.shape[1] - 1)) * width, np.float32)
    for n in range(len(x)):
        if on[n]:
            blur_clip(x[n], weights[n], NONE, padded)


@kernel
def _scale_axes(x: np.ndarray, weights: np.ndarray) -> None:
    for n in range(len(x)):
        scale_axes_of(x[n], weights[n])


@kernel
def _zero_joints(bodies: int, x: np.ndarray, joints: np.ndarray, first: np.ndarray, length: np.ndarray) -> None:
    for n in range(len(x)):
        zero_joints_of(bodies, x[n], joints[n], first[n], length[n])


@kernel
def _fill_boxes(bodies: int, x: np.ndarray, joints: np.ndarray, start: np.ndarray, pool: np.ndarray) -> bool:
    clips, channels, frames, width = x.shape
    numbers = min(channels, POSITIONS) * frames * joints.shape[1] * bodies
    for n in range(clips):
        if start[n] < 0 or start[n] + numbers > len(pool):
            return False
        for k in range(joints.shape[1]):
            if joints[n, k] < 0 or joints[n, k] >= width // bodies:
                return False
        fill_boxes_in(bodies, x[n], joints[n], pool[start[n] : start[n] + numbers])
    return True


@kernel
def _interpolate(x: np.ndarray, on: np.ndarray, first: np.ndarray, weights: np.ndarray) -> bool:
    clips, _, frames, width = x.shape
    before = np.empty((frames, width), np.float32)
    for n in range(clips):
        if not on[n]:
            continue
        for t in range(frames):
            if first[n, t] < 0 or first[n, t] >= frames:
                return False
        interpolate_clip(x[n], first[n], weights[0, n], weights[1, n], before)
    return True


@kernel
def _scale_bones(bodies: int, x: np.ndarray, factor: np.ndarray, bones: np.ndarray) -> None:
    _, _, frames, width = x.shape
    before, after = np.empty(frames * width, np.float32), np.empty(frames * width, np.float32)
    for n in range(len(x)):
        scale_bones_of(bodies, x[n], factor[n], bones, before, after)


@kernel
def _paste(bodies: int, y: np.ndarray, x: np.ndarray, donor: np.ndarray, region: np.ndarray) -> bool:
    """Frames are words of 32 bits. A row of `region` is that of as many frames as there are for each row."""
    clips, axes, frames, width = x.shape
    steps, size = region.shape[1], frames * width
    wide = np.zeros(ROWS * width, np.int32)  # all bits set in the joints, of all bodies, of the row `held`
    held, done = np.zeros(region.shape[2], np.bool_), np.zeros(clips, np.bool_)
    for begin in range(clips):
        n = begin
        while not done[n]:
            done[n] = True
            if donor[n] < 0 or donor[n] >= clips:
                return False
            then = donor[donor[n]]  # the donor of the clip that comes next
            if 0 <= then < clips:
                prefetch_pages(x[then].ctypes.data, 4 * axes * size)
                prefetch_pages(y[donor[n]].ctypes.data, 4 * axes * size)
            s = 0
            while s < steps:
                row, last, inside = region[n, s], s + 1, False
                for v in range(len(row)):
                    inside |= row[v]
                while last < steps and _same(row, region[n, last]):
                    last += 1
                if inside and not _same(row, held):
                    for v in range(len(row)):
                        held[v] = row[v]
                    for i in range(len(wide)):
                        wide[i] = -np.int32(row[i % width // bodies])
                low, high = s * size // steps, last * size // steps
                for c in range(axes):
                    mixed, own = y[n, c].reshape(size)[low:high], x[n, c].reshape(size)[low:high]
                    if inside:
                        _choose(mixed, own, x[donor[n], c].reshape(size)[low:high], wide)
                    else:
                        for i in range(len(own)):
                            mixed[i] = own[i]
                s = last
            n = donor[n]  # which is in the cache
    return True


@kernel
def _same(one: np.ndarray, other: np.ndarray) -> bool:
    differ = False
    for v in range(len(one)):
        differ |= one[v] != other[v]
    return not differ


@kernel
def _choose(mixed: np.ndarray, own: np.ndarray, other: np.ndarray, wide: np.ndarray) -> None:
    for first in range(0, len(own), len(wide)):
        y, x, z = mixed[first : first + len(wide)], own[first : first + len(wide)], other[first:]
        for i in range(len(x)):
            y[i] = x[i] ^ ((x[i] ^ z[i]) & wide[i])


@kernel
def _reflect(frames: np.ndarray, start: np.ndarray) -> None:
    count = frames.shape[1]
    for n in range(len(frames)):
        for t in range(count):
            at = start[n] + t
            at = at if at >= 0 else -1 - at
            frames[n, t] = at if at < count else 2 * count - 1 - at


@kernel
def _choose_again(both: np.ndarray, first: np.ndarray, then: np.ndarray) -> bool:
    for n in range(len(both)):
        for i in range(both.shape[1]):
            at = then[n, i]
            if at < 0 or at >= first.shape[1]:
                return False
            both[n, i] = first[n, at]
    return True


@kernel
def _multiply(both: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    for n in range(len(both)):
        for i in range(3):
            for k in range(3):
                both[n, i, k] = a[n, i, 0] * b[n, 0, k] + a[n, i, 1] * b[n, 1, k] + a[n, i, 2] * b[n, 2, k]


@kernel
def _copy(to: np.ndarray, of: np.ndarray) -> None:
    for i in range(len(to)):
        to[i] = of[i]


@kernel
def _spans(
    each: int,
    coarse: np.ndarray,
    fine: np.ndarray,
    chosen: np.ndarray,
    of: np.ndarray,
    first: np.ndarray,
    length: np.ndarray,
) -> bool:
    count = len(of)
    for v in range(count):
        if of[v] < 0 or of[v] >= chosen.shape[1]:
            return False
    for n in range(len(fine)):
        if n and first[n] == first[n - 1] and length[n] == length[n - 1] and _same(chosen[n], chosen[n - 1]):
            _copy(coarse[n], coarse[n - 1])
            _copy(fine[n], fine[n - 1])
            continue
        for t in range(fine.shape[1] // count):
            block = t // each
            inside = first[n] <= block < first[n] + length[n] and (block + 1) * count <= coarse.shape[1]
            for v in range(count):
                on = np.uint8(inside and chosen[n, of[v]])
                fine[n, t * count + v] = on
                if (block + 1) * count <= coarse.shape[1]:
                    coarse[n, block * count + v] = on
    return True
