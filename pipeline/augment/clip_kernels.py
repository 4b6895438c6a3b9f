"""Augmentations of one clip on a CPU: what a batch does to each of its clips while it is in the cache.

Kernels of numba that check no bounds but those they return; `cpu_kernels` calls them. A clip is [C,T,W], W the
joints of all bodies; it is contiguous, as are all other arrays.
"""

import numpy as np

from skelpipe.kernels import njit
from skelpipe.views import POSITIONS

__all__ = [
    "REACH",
    "ROWS",
    "blur_clip",
    "fill_boxes_in",
    "interpolate_clip",
    "kernel",
    "mix_clip",
    "noise_clip",
    "scale_axes_of",
    "scale_bones_of",
    "zero_joints_of",
]

# Multiply-adds may be fused. Sums keep the order in which they are written.
kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})

REACH = 7  # of a blur: frames on either side
ROWS = 16  # of a clip, whose weights of noise are kept
LEAST = np.float32(2.0**-27)  # less of a neighbouring frame is lost in the rounding of the frame itself


@kernel
def mix_clip(
    bodies: int,
    x: np.ndarray,
    y: np.ndarray,
    a: np.ndarray,
    frames: np.ndarray,
    joints: np.ndarray,
    centre: np.ndarray,
    b: np.ndarray,
    row: np.ndarray,
    words: np.ndarray,
) -> bool:
    """Mix the axes of x by `a` into y, in chosen frames and joints; return False for those that do not exist.

    `joints` is empty where they stay; the joint centre[0], if any, is mixed by `b`. `row`, float32[W], and
    `words`, int64[V], are memory for a frame.
    """
    _, count, width = x.shape
    special = centre[0] * bodies if len(centre) else 0
    apart = bodies if len(centre) else 0
    if special < 0 or special + apart > width:
        return False
    for v in range(len(joints)):
        if joints[v] < 0 or (joints[v] + 1) * bodies > width:
            return False
    if count == 0:
        return True
    begin, run, step = _longest_run(frames)
    least = frames[begin] if step > 0 else frames[begin] - run + 1  # of the frames in that run
    t = 0
    while t < count:
        made, whole = 1, t == begin
        if whole:
            made, frame = run, least
        else:
            frame = frames[t]
            while t + made < count and t + made != begin and frames[t + made] == frame + made:
                made += 1
        if frame < 0 or frame + made > count:
            return False
        if whole or frame < least or frame + made > least + run:
            _mix_frames(bodies, x, y, a, b, special, apart, frame, t, made)
            if whole and step < 0:
                _reverse(y, t, run)
        t += made
    for t in range(count):
        place = (frames[t] - frames[begin]) * step  # in that run, whose frames are mixed already
        if 0 <= place < run and begin + place != t:
            _repeat(y, begin + place, t)
    if len(joints):
        _reorder(bodies, y, joints, row, words)
    return True


@kernel
def _longest_run(frames: np.ndarray) -> tuple[int, int, int]:
    """Return begin, length and step of the longest run of frames each of which is the one before plus the step.

    The step is 1 or, as in a clip that is reversed, -1.
    """
    begin, longest, step = 0, 1, 1
    low = 0
    while low < len(frames) - 1:
        by = frames[low + 1] - frames[low]
        high = low + 1
        if abs(by) == 1:
            while high + 1 < len(frames) and frames[high + 1] - frames[high] == by:
                high += 1
            if high - low + 1 > longest:
                begin, longest, step = low, high - low + 1, by
        low = high
    return begin, longest, step


@kernel
def _mix_frames(
    bodies: int,
    x: np.ndarray,
    y: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    special: int,
    apart: int,
    frame: int,
    t: int,
    run: int,
) -> None:
    """Mix `run` frames of x from `frame` on into y from frame t on: in memory they are one long row."""
    channels, count, width = x.shape
    size, of, to, n = count * width, frame * width, t * width, run * width
    x0, x1, x2 = x[0].reshape(size)[of:], x[1].reshape(size)[of:], x[2].reshape(size)[of:]
    y0, y1, y2 = y[0].reshape(size)[to:], y[1].reshape(size)[to:], y[2].reshape(size)[to:]
    _mix_rows(x0[:n], x1[:n], x2[:n], y0, y1, y2, a)
    for m in range(special, special + apart):
        for i in range(m, n, width):
            y0[i] = b[0, 2] * x2[i] + (b[0, 1] * x1[i] + b[0, 0] * x0[i])
            y1[i] = b[1, 2] * x2[i] + (b[1, 1] * x1[i] + b[1, 0] * x0[i])
            y2[i] = b[2, 2] * x2[i] + (b[2, 1] * x1[i] + b[2, 0] * x0[i])
    for c in range(POSITIONS, channels):  # scores
        kept, score = y[c].reshape(size)[to:], x[c].reshape(size)[of:]
        for i in range(n):
            kept[i] = score[i]


@kernel
def _reverse(y: np.ndarray, first: int, run: int) -> None:
    """Reverse `run` frames of y from `first` on."""
    for c in range(y.shape[0]):
        for k in range(run // 2):
            one, other = y[c, first + k], y[c, first + run - 1 - k]
            for i in range(len(one)):
                one[i], other[i] = other[i], one[i]


@kernel
def _repeat(y: np.ndarray, frame: int, t: int) -> None:
    """Write a frame of y again as its frame t."""
    for c in range(y.shape[0]):
        of, to = y[c, frame], y[c, t]
        for i in range(len(of)):
            to[i] = of[i]


@kernel
def _mix_rows(
    x0: np.ndarray, x1: np.ndarray, x2: np.ndarray, y0: np.ndarray, y1: np.ndarray, y2: np.ndarray, a: np.ndarray
) -> None:
    a00, a01, a02 = a[0, 0], a[0, 1], a[0, 2]
    a10, a11, a12 = a[1, 0], a[1, 1], a[1, 2]
    a20, a21, a22 = a[2, 0], a[2, 1], a[2, 2]
    for i in range(len(x0)):
        u, v, w = x0[i], x1[i], x2[i]
        y0[i] = a02 * w + (a01 * v + a00 * u)
        y1[i] = a12 * w + (a11 * v + a10 * u)
        y2[i] = a22 * w + (a21 * v + a20 * u)


@kernel
def _reorder(bodies: int, y: np.ndarray, joints: np.ndarray, row: np.ndarray, words: np.ndarray) -> None:
    channels, count, width = y.shape
    moved, swaps = 0, True
    for v in range(len(joints)):
        moved += joints[v] != v
        swaps &= joints[joints[v]] == v
    if not moved:
        return
    rows = y.reshape(channels * count, width)
    if bodies == 2 and swaps:
        pairs = rows.view(np.int64)  # both bodies of a joint are moved as one number
        for v in range(len(joints)):
            other = joints[v]
            if other > v:
                for r in range(len(pairs)):
                    pairs[r, v], pairs[r, other] = pairs[r, other], pairs[r, v]
    elif bodies == 2:
        pairs = rows.view(np.int64)
        for r in range(len(pairs)):
            for v in range(len(joints)):
                words[v] = pairs[r, v]
            for v in range(len(joints)):
                pairs[r, v] = words[joints[v]]
    else:
        for r in range(len(rows)):
            for i in range(width):
                row[i] = rows[r, i]
            for v in range(len(joints)):
                for m in range(bodies):
                    rows[r, v * bodies + m] = row[joints[v] * bodies + m]


@kernel
def noise_clip(
    bodies: int,
    empty: bool,
    y: np.ndarray,
    scale: np.float32,
    field: np.ndarray,
    skip: np.ndarray,
    weight: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Add `scale` times `field`, in the order [3,T,W], to the axes of y but those of `skip`, bool[3].

    Absent bodies get noise only if `empty`. `weight`, float32[ROWS*W], and `seen`, int32[W], are memory.
    """
    channels, count, width = y.shape
    axes, size = min(channels, POSITIONS), count * width
    present = empty
    if not empty:
        present = _find_bodies(bodies, y, axes, seen)
        if not present:
            for r in range(min(count, ROWS)):
                for i in range(width):
                    weight[r * width + i] = scale if seen[i] != 0 else np.float32(0)
    for c in range(axes):
        if skip[c]:
            continue
        plane, noise = y[c].reshape(size), field[c * size : (c + 1) * size]
        if present:
            for i in range(size):
                plane[i] += scale * noise[i]
            continue
        for first in range(0, size, ROWS * width):
            some, numbers = plane[first : min(first + ROWS * width, size)], noise[first:]
            for i in range(len(some)):
                some[i] += weight[i] * numbers[i]


@kernel
def _find_bodies(bodies: int, y: np.ndarray, axes: int, seen: np.ndarray) -> bool:
    """Return whether all bodies are there; if not, `seen` is not 0 in the columns of those that are."""
    _, count, width = y.shape
    missing = 0
    for m in range(bodies):
        missing += count == 0 or y[0, 0, m] == 0
    if not missing:  # seen in the first joint
        return True
    bits = y.view(np.int32)
    for i in range(width):
        seen[i] = 0
    for c in range(axes):
        for t in range(count):
            frame = bits[c, t]
            for i in range(width):
                seen[i] |= frame[i] & 0x7FFFFFFF  # but for the sign: -0 is 0
    every = True
    for m in range(bodies):
        there = np.int32(0)
        for i in range(m, width, bodies):
            there |= seen[i]
        every &= there != 0
        for i in range(m, width, bodies):
            seen[i] = there
    return every


@kernel
def blur_clip(y: np.ndarray, g: np.ndarray, skip: np.ndarray, padded: np.ndarray) -> None:
    """Convolve the axes of y but those of `skip`, bool[3], in time; beyond both ends are zeros.

    `g` are the weights of the frame itself and of the frames 1, 2, ... 7 away on both sides. `padded`,
    float32[(T+14)*W], is memory that is 0 in its first and last 7 W numbers.
    """
    channels, count, width = y.shape
    size, reach = count * width, len(g) - 1
    margin = reach * width
    taps = 0  # behind a weight of 0 all are 0
    while taps < reach and g[taps + 1] > LEAST * g[0]:
        taps += 1
    for c in range(min(channels, POSITIONS)):
        if skip[c]:
            continue
        plane, centre = y[c].reshape(size), padded[margin : margin + size]
        for i in range(size):
            centre[i] = plane[i]
        if taps > 4:
            _convolve7(width, plane, padded[margin - 7 * width :], g)
        elif taps > 2:
            _convolve4(width, plane, padded[margin - 4 * width :], g)
        else:
            _convolve2(width, plane, padded[margin - 2 * width :], g)


@kernel
def _convolve7(w: int, y: np.ndarray, x: np.ndarray, g: np.ndarray) -> None:
    n = len(y)
    g0, g1, g2, g3, g4, g5, g6, g7 = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]
    a7, a6, a5, a4 = x[:n], x[w : w + n], x[2 * w : 2 * w + n], x[3 * w : 3 * w + n]
    a3, a2, a1 = x[4 * w : 4 * w + n], x[5 * w : 5 * w + n], x[6 * w : 6 * w + n]
    own = x[7 * w : 7 * w + n]
    b1, b2, b3 = x[8 * w : 8 * w + n], x[9 * w : 9 * w + n], x[10 * w : 10 * w + n]
    b4, b5, b6, b7 = x[11 * w : 11 * w + n], x[12 * w : 12 * w + n], x[13 * w : 13 * w + n], x[14 * w :]
    for i in range(n):
        total = g0 * own[i] + g1 * (a1[i] + b1[i])
        total = total + g2 * (a2[i] + b2[i])
        total = total + g3 * (a3[i] + b3[i])
        total = total + g4 * (a4[i] + b4[i])
        total = total + g5 * (a5[i] + b5[i])
        total = total + g6 * (a6[i] + b6[i])
        y[i] = total + g7 * (a7[i] + b7[i])


@kernel
def _convolve4(w: int, y: np.ndarray, x: np.ndarray, g: np.ndarray) -> None:
    n = len(y)
    g0, g1, g2, g3, g4 = g[0], g[1], g[2], g[3], g[4]
    a4, a3, a2, a1 = x[:n], x[w : w + n], x[2 * w : 2 * w + n], x[3 * w : 3 * w + n]
    own = x[4 * w : 4 * w + n]
    b1, b2, b3, b4 = x[5 * w : 5 * w + n], x[6 * w : 6 * w + n], x[7 * w : 7 * w + n], x[8 * w :]
    for i in range(n):
        total = g0 * own[i] + g1 * (a1[i] + b1[i])
        total = total + g2 * (a2[i] + b2[i])
        total = total + g3 * (a3[i] + b3[i])
        y[i] = total + g4 * (a4[i] + b4[i])


@kernel
def _convolve2(w: int, y: np.ndarray, x: np.ndarray, g: np.ndarray) -> None:
    n = len(y)
    g0, g1, g2 = g[0], g[1], g[2]
    a2, a1, own, b1, b2 = x[:n], x[w : w + n], x[2 * w : 2 * w + n], x[3 * w : 3 * w + n], x[4 * w :]
    for i in range(n):
        total = g0 * own[i] + g1 * (a1[i] + b1[i])
        y[i] = total + g2 * (a2[i] + b2[i])


@kernel
def scale_axes_of(y: np.ndarray, weights: np.ndarray) -> None:
    """Multiply the axes of y by `weights`, float32[3]."""
    _, count, width = y.shape
    for c in range(len(weights)):
        weight, plane = weights[c], y[c].reshape(count * width)
        if weight == 0:
            for i in range(len(plane)):
                plane[i] = 0
        elif weight != 1:
            for i in range(len(plane)):
                plane[i] *= weight


@kernel
def zero_joints_of(bodies: int, y: np.ndarray, joints: np.ndarray, first: int, length: int) -> None:
    """Set the joints where `joints`, [V], is not 0 to 0 in `length` frames from `first` on."""
    channels, count, _ = y.shape
    for v in range(len(joints)):
        if not joints[v]:
            continue
        for c in range(channels):
            for t in range(max(first, 0), min(first + length, count)):
                for i in range(v * bodies, v * bodies + bodies):
                    y[c, t, i] = 0


@kernel
def fill_boxes_in(bodies: int, y: np.ndarray, joints: np.ndarray, units: np.ndarray) -> None:
    """Replace `joints`, int64[k], of y by `units`, in the order [3,T,k,M], scaled to the body's box in that frame.

    A body whose numbers in a frame sum to 0 stays as it is.
    """
    channels, frames, width = y.shape
    axes, count, replaced = min(channels, POSITIONS), width // bodies, len(joints)
    low, size = np.empty(axes, np.float32), np.empty(axes, np.float32)
    for t in range(frames):
        for m in range(bodies):
            total = np.float32(0)
            for c in range(axes):
                row = y[c, t]
                least = most = row[m]
                along = np.float32(0)
                for v in range(count):
                    number = row[v * bodies + m]
                    along += number
                    least, most = min(least, number), max(most, number)
                total += along
                low[c], size[c] = least, most - least
            if total == 0:
                continue
            for c in range(axes):
                for k in range(replaced):
                    unit = units[((c * frames + t) * replaced + k) * bodies + m]
                    y[c, t, joints[k] * bodies + m] = low[c] + unit * size[c]


@kernel
def interpolate_clip(y: np.ndarray, first: np.ndarray, p: np.ndarray, q: np.ndarray, before: np.ndarray) -> None:
    """Replace frame t of y by p[t] times frame first[t] and q[t] times the next; `before` is memory, [T,W]."""
    channels, frames, width = y.shape
    size = frames * width
    flat = before.reshape(size)
    for c in range(channels):
        plane = y[c].reshape(size)
        for i in range(size):
            flat[i] = plane[i]
        for t in range(frames):
            one, other, into = before[first[t]], before[min(first[t] + 1, frames - 1)], y[c, t]
            share, rest = p[t], q[t]
            for i in range(width):
                into[i] = share * one[i] + rest * other[i]


@kernel
def scale_bones_of(
    bodies: int, y: np.ndarray, factor: np.ndarray, bones: np.ndarray, before: np.ndarray, after: np.ndarray
) -> None:
    """Scale each bone (joint, parent) of the axes of y by factor[joint].

    `bones` are ordered outwards. `before` and `after`, float32[W*T], are memory for an axis, joint by joint.
    """
    channels, frames, _ = y.shape
    size = frames * bodies
    for c in range(min(channels, POSITIONS)):
        _transpose(bodies, y[c], before, after)
        for b in range(len(bones)):
            at, of, scale = bones[b, 0] * size, bones[b, 1] * size, factor[bones[b, 0]]
            end, start, moved = before[at : at + size], before[of : of + size], after[of : of + size]
            grown = after[at : at + size]
            for i in range(size):
                grown[i] = moved[i] + scale * (end[i] - start[i])
        _restore(bodies, y[c], after)


@kernel
def _transpose(bodies: int, plane: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    """Write [T,W] as [V,T,M] to `before` and `after`."""
    frames, width = plane.shape
    count = width // bodies
    if bodies == 2:  # both bodies of a joint are moved as one number
        pairs, one, other = plane.view(np.int64), before.view(np.int64), after.view(np.int64)
        for v in range(count):
            for t in range(frames):
                one[v * frames + t] = other[v * frames + t] = pairs[t, v]
        return
    for v in range(count):
        for t in range(frames):
            for m in range(bodies):
                at = (v * frames + t) * bodies + m
                before[at] = after[at] = plane[t, v * bodies + m]


@kernel
def _restore(bodies: int, plane: np.ndarray, after: np.ndarray) -> None:
    """Write [V,T,M] back to [T,W]."""
    frames, width = plane.shape
    count = width // bodies
    if bodies == 2:
        pairs, other = plane.view(np.int64), after.view(np.int64)
        for t in range(frames):
            for v in range(count):
                pairs[t, v] = other[v * frames + t]
        return
    for t in range(frames):
        for v in range(count):
            for m in range(bodies):
                plane[t, v * bodies + m] = after[(v * frames + t) * bodies + m]
