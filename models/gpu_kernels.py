"""The operations of `gpu_ops` as Triton kernels. Importing this needs triton, which torch's builds for CUDA have.

A program takes consecutive rows of one batch and up to `COLUMNS` channels. Those that sum write their sums apart,
and every program of the next kernel adds these up again, in one order: so no number depends on which came first.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from skelpipe.models.gpu_ops import COLUMNS, PROGRAMS, Poses, pieces

__all__ = ["finish", "finish_slopes", "finish_sums", "graph", "graph_slopes", "graph_weights", "moments"]

ELEMENTS = 4096  # of a tile


@triton.jit
def _place(rows, ROWS: tl.constexpr, COLUMNS: tl.constexpr, channels):  # type: ignore[no-untyped-def]
    """Return the columns of a program, which of them exist, its first row, and those after it of a tile."""
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    return columns, columns < channels, tl.program_id(0) * rows, tl.arange(0, ROWS)


@triton.jit
def _tile(x, offset, row, columns, live, channels, joints, beside, OFFSET: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return where elements of x lie, and their values with the offset."""
    at = row[:, None].to(tl.int64) * channels + columns[None, :]
    values = tl.load(x + at, live, 0.0).to(tl.float32)
    if OFFSET:
        added = tl.load(offset + (row % joints)[:, None] * beside + columns[None, :], live, 0.0)
        values += added.to(tl.float32)
    return at, values


@triton.jit
def _mixed(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def _factor(at, seed, threshold, scale):  # type: ignore[no-untyped-def]
    """Return by what dropout multiplies elements; see `gpu_ops.kept`."""
    low, high = (seed & 0xFFFFFFFF).to(tl.uint32), ((seed >> 32) & 0xFFFFFFFF).to(tl.uint32)
    bits = _mixed(_mixed(at.to(tl.uint32) + low) ^ high)
    return tl.where(bits.to(tl.int64) >= threshold, scale, 0.0)


@triton.jit
def _moments(  # type: ignore[no-untyped-def]
    x, offset, counts, out, size, rows, channels, joints, beside, per_count,
    OFFSET: tl.constexpr, COUNTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    columns, real, first, next_rows = _place(rows, ROWS, COLUMNS, channels)
    before = tl.program_id(2) * size
    number = 0.0
    mean = tl.zeros([COLUMNS], tl.float32)
    squares = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, rows, ROWS):
        row = first + start + next_rows
        inside = (start + next_rows < rows) & (row < size)
        live = inside[:, None] & real[None, :]
        _, values = _tile(x, offset, before + row, columns, live, channels, joints, beside, OFFSET)
        if COUNTS:
            each = tl.load(counts + (before + row) // per_count, inside, 0.0).to(tl.float32)
        else:
            each = inside.to(tl.float32)
        here = tl.sum(each, 0)
        middle = tl.sum(values * each[:, None], 0) / tl.maximum(here, 1.0)
        apart = values - middle[None, :]
        share = here / tl.maximum(number + here, 1.0)
        step = middle - mean
        mean += step * share
        squares += tl.sum(apart * apart * each[:, None], 0) + step * step * (number * share)
        number += here
    to = out + ((tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)) * 3) * channels + columns
    tl.store(to, tl.zeros([COLUMNS], tl.float32) + number, real)
    tl.store(to + channels, mean, real)
    tl.store(to + 2 * channels, squares, real)


@triton.jit
def _merged(parts, group, number_of_parts, channels, columns, real, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return number, mean and sum of squares of a batch, from those of its parts."""
    parts += group * number_of_parts * 3 * channels
    count = tl.zeros([COLUMNS], tl.float32)
    total = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, number_of_parts, 32):
        part = start + tl.arange(0, 32)
        live = (part < number_of_parts)[:, None] & real[None, :]
        at = parts + part[:, None] * (3 * channels) + columns[None, :]
        number = tl.load(at, live, 0.0)
        count += tl.sum(number, 0)
        total += tl.sum(number * tl.load(at + channels, live, 0.0), 0)
    count = tl.maximum(count, 1.0)
    mean = total / count
    squares = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, number_of_parts, 32):
        part = start + tl.arange(0, 32)
        live = (part < number_of_parts)[:, None] & real[None, :]
        at = parts + part[:, None] * (3 * channels) + columns[None, :]
        apart = tl.load(at + channels, live, 0.0) - mean[None, :]
        inside = tl.load(at + 2 * channels, live, 0.0)
        squares += tl.sum(inside + tl.load(at, live, 0.0) * apart * apart, 0)
    return count, mean, squares


@triton.jit
def _finish(  # type: ignore[no-untyped-def]
    x, offset, parts, weight, bias, running_mean, running_var, around, seed, y, found,
    size, rows, channels, joints, beside, number_of_parts, groups, momentum, eps, threshold, scale,
    OFFSET: tl.constexpr, AROUND: tl.constexpr, DROPS: tl.constexpr, RECTIFY: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    columns, real, first, next_rows = _place(rows, ROWS, COLUMNS, channels)
    group = tl.program_id(2)
    count, mean, squares = _merged(parts, group, number_of_parts, channels, columns, real, COLUMNS)
    inverse = 1 / tl.sqrt_rn(squares / count + eps)
    if tl.program_id(0) == 0:
        to = found + group * 3 * channels + columns
        tl.store(to, mean, real)
        tl.store(to + channels, inverse, real)
        tl.store(to + 2 * channels, count, real)
        if group == 0:
            old_mean = tl.load(running_mean + columns, real, 0.0)
            old_var = tl.load(running_var + columns, real, 0.0)
            for each in range(groups):
                n, m, s = _merged(parts, each, number_of_parts, channels, columns, real, COLUMNS)
                old_mean += (m - old_mean) * momentum
                old_var += (s / tl.maximum(n - 1, 1.0) - old_var) * momentum
            tl.store(running_mean + columns, old_mean, real)
            tl.store(running_var + columns, old_var, real)
    slope = tl.load(weight + columns, real, 0.0).to(tl.float32)
    shift = tl.load(bias + columns, real, 0.0).to(tl.float32)
    drawn = tl.load(seed) if DROPS else 0
    for start in range(0, rows, ROWS):
        row = first + start + next_rows
        inside = (start + next_rows < rows) & (row < size)
        live = inside[:, None] & real[None, :]
        at, values = _tile(x, offset, group * size + row, columns, live, channels, joints, beside, OFFSET)
        values = (values - mean[None, :]) * inverse[None, :] * slope[None, :] + shift[None, :]
        if DROPS:
            values *= _factor(at, drawn, threshold, scale)
        if AROUND:
            values += tl.load(around + at, live, 0.0).to(tl.float32)
        if RECTIFY:
            values = tl.where(values > 0, values, 0.0)
        tl.store(y + at, values.to(y.dtype.element_ty), live)


@triton.jit
def _steep(  # type: ignore[no-untyped-def]
    given, at, live, unit, slope, shift, y, BESIDE: tl.constexpr, RECTIFY: tl.constexpr
):
    """Return the gradients before the rectifier."""
    values = tl.load(given + at, live, 0.0).to(tl.float32)
    if RECTIFY:
        before = tl.load(y + at, live, 0.0).to(tl.float32) if BESIDE else unit * slope[None, :] + shift[None, :]
        values = tl.where(before > 0, values, 0.0)
    return values


@triton.jit
def _sums(  # type: ignore[no-untyped-def]
    given, x, offset, found, weight, bias, y, seed, out, around,
    size, rows, channels, joints, beside, threshold, scale,
    OFFSET: tl.constexpr, BESIDE: tl.constexpr, DROPS: tl.constexpr, RECTIFY: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    columns, real, first, next_rows = _place(rows, ROWS, COLUMNS, channels)
    group = tl.program_id(2)
    of_group = found + group * 3 * channels + columns
    mean, inverse = tl.load(of_group, real, 0.0), tl.load(of_group + channels, real, 0.0)
    slope = tl.load(weight + columns, real, 0.0).to(tl.float32)
    shift = tl.load(bias + columns, real, 0.0).to(tl.float32)
    drawn = tl.load(seed) if DROPS else 0
    plain = tl.zeros([COLUMNS], tl.float32)
    along = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, rows, ROWS):
        row = first + start + next_rows
        inside = (start + next_rows < rows) & (row < size)
        live = inside[:, None] & real[None, :]
        at, values = _tile(x, offset, group * size + row, columns, live, channels, joints, beside, OFFSET)
        unit = (values - mean[None, :]) * inverse[None, :]
        steep = _steep(given, at, live, unit, slope, shift, y, BESIDE, RECTIFY)
        if BESIDE:
            rounded = steep.to(around.dtype.element_ty)
            tl.store(around + at, rounded, live)
            steep = rounded.to(tl.float32)
        if DROPS:
            steep *= _factor(at, drawn, threshold, scale)
        steep = tl.where(live, steep, 0.0)
        plain += tl.sum(steep, 0)
        along += tl.sum(steep * unit, 0)
    to = out + ((group * tl.num_programs(0) + tl.program_id(0)) * 2) * channels + columns
    tl.store(to, plain, real)
    tl.store(to + channels, along, real)


@triton.jit
def _added(parts, group, number_of_parts, channels, columns, real, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return both sums over the parts of a batch."""
    parts += group * number_of_parts * 2 * channels
    plain = tl.zeros([COLUMNS], tl.float32)
    along = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, number_of_parts, 32):
        part = start + tl.arange(0, 32)
        live = (part < number_of_parts)[:, None] & real[None, :]
        at = parts + part[:, None] * (2 * channels) + columns[None, :]
        plain += tl.sum(tl.load(at, live, 0.0), 0)
        along += tl.sum(tl.load(at + channels, live, 0.0), 0)
    return plain, along


@triton.jit
def _slopes(  # type: ignore[no-untyped-def]
    given, x, offset, found, weight, bias, parts, counts, seed, dx, own,
    size, rows, channels, joints, beside, per_count, number_of_parts, groups, threshold, scale,
    OFFSET: tl.constexpr, COUNTS: tl.constexpr, DROPS: tl.constexpr, RECTIFY: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    columns, real, first, next_rows = _place(rows, ROWS, COLUMNS, channels)
    group = tl.program_id(2)
    if tl.program_id(0) == 0 and group == 0:
        of_bias = tl.zeros([COLUMNS], tl.float32)
        of_weight = tl.zeros([COLUMNS], tl.float32)
        for each in range(groups):
            p, a = _added(parts, each, number_of_parts, channels, columns, real, COLUMNS)
            of_bias += p
            of_weight += a
        tl.store(own + columns, of_bias, real)
        tl.store(own + channels + columns, of_weight, real)
    of_group = found + group * 3 * channels + columns
    mean, inverse = tl.load(of_group, real, 0.0), tl.load(of_group + channels, real, 0.0)
    count = tl.load(of_group + 2 * channels, real, 1.0)
    plain, along = _added(parts, group, number_of_parts, channels, columns, real, COLUMNS)
    slope = tl.load(weight + columns, real, 0.0).to(tl.float32)
    shift = tl.load(bias + columns, real, 0.0).to(tl.float32)
    drawn = tl.load(seed) if DROPS else 0
    for start in range(0, rows, ROWS):
        row = first + start + next_rows
        inside = (start + next_rows < rows) & (row < size)
        live = inside[:, None] & real[None, :]
        at, values = _tile(x, offset, group * size + row, columns, live, channels, joints, beside, OFFSET)
        unit = (values - mean[None, :]) * inverse[None, :]
        steep = _steep(given, at, live, unit, slope, shift, x, False, RECTIFY)
        if DROPS:
            steep *= _factor(at, drawn, threshold, scale)
        shared = (plain / count)[None, :] + unit * (along / count)[None, :]
        if COUNTS:
            each = tl.load(counts + (group * size + row) // per_count, inside, 0.0).to(tl.float32)
            shared *= each[:, None]
        steep = (steep - shared) * (inverse * slope)[None, :]
        tl.store(dx + at, steep.to(dx.dtype.element_ty), live)


@triton.jit
def _poses(x, tile, poses, V, C, JOINTS: tl.constexpr, POSES: tl.constexpr, C_IN: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return where a tile of poses lies in x, [joints, poses * channels], and which of it exists."""
    joint, column = tl.arange(0, JOINTS), tl.arange(0, POSES * C_IN)
    pose, channel = tile * POSES + column // C_IN, column % C_IN
    at = (pose[None, :].to(tl.int64) * V + joint[:, None]) * C + channel[None, :]
    return at, (joint < V)[:, None] & ((pose < poses) & (channel < C))[None, :]


@triton.jit
def _outcomes(tile, poses, V, channels, first, JOINTS: tl.constexpr, POSES: tl.constexpr, C_OUT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return where a tile of [P, V, channels] lies, [joints * poses, channels], and which of it exists."""
    row, channel = tl.arange(0, JOINTS * POSES), first + tl.arange(0, C_OUT)
    joint, pose = row // POSES, tile * POSES + row % POSES
    at = (pose[:, None].to(tl.int64) * V + joint[:, None]) * channels + channel[None, :]
    return at, ((joint < V) & (pose < poses))[:, None] & (channel < channels)[None, :]


@triton.jit
def _edges(gather, k, V, JOINTS: tl.constexpr, K: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the matrix of a subset, [joints to, joints from]."""
    to, of = tl.arange(0, JOINTS)[:, None], tl.arange(0, JOINTS)[None, :]
    return tl.load(gather + (to * K + k) * V + of, (to < V) & (of < V), 0.0)


@triton.jit
def _edges_back(gather, k, V, JOINTS: tl.constexpr, K: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the matrix of a subset, [joints from, joints to]."""
    of, to = tl.arange(0, JOINTS)[:, None], tl.arange(0, JOINTS)[None, :]
    return tl.load(gather + (to * K + k) * V + of, (to < V) & (of < V), 0.0)


@triton.jit
def _graph(  # type: ignore[no-untyped-def]
    x, gather, maps, out, poses, V, C, channels,
    JOINTS: tl.constexpr, POSES: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr,
    HOW: tl.constexpr,
):  # fmt: skip
    at, live = _poses(x, tl.program_id(0), poses, V, C, JOINTS, POSES, C_IN)
    values = tl.load(x + at, live, 0.0)
    first = tl.program_id(1) * C_OUT
    inner, outer = tl.arange(0, C_IN), first + tl.arange(0, C_OUT)
    real = (inner < C)[:, None] & (outer < channels)[None, :]
    total = tl.zeros([JOINTS * POSES, C_OUT], tl.float32)
    for k in tl.static_range(K):
        near = tl.dot(_edges(gather, k, V, JOINTS, K), values, input_precision=HOW).to(values.dtype)
        weights = tl.load(maps + outer[None, :] * (K * C) + k * C + inner[:, None], real, 0.0)
        total += tl.dot(tl.reshape(near, (JOINTS * POSES, C_IN)), weights, input_precision=HOW)
    to, live = _outcomes(tl.program_id(0), poses, V, channels, first, JOINTS, POSES, C_OUT)
    tl.store(out + to, total.to(out.dtype.element_ty), live)


@triton.jit
def _graph_slopes(  # type: ignore[no-untyped-def]
    given, x, gather, maps, around, dx, parts, poses, V, C, channels, tiles,
    AROUND: tl.constexpr, JOINTS: tl.constexpr, POSES: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr,
    HOW: tl.constexpr,
):  # fmt: skip
    inner, outer = tl.arange(0, C_IN), tl.arange(0, C_OUT)
    to, of = tl.arange(0, JOINTS)[:, None], tl.arange(0, JOINTS)[None, :]
    edges0 = tl.zeros([JOINTS, JOINTS], tl.float32)
    edges1 = tl.zeros([JOINTS, JOINTS], tl.float32)
    edges2 = tl.zeros([JOINTS, JOINTS], tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        steep0 = tl.zeros([JOINTS * POSES, C_IN], tl.float32)
        steep1 = tl.zeros([JOINTS * POSES, C_IN], tl.float32)
        steep2 = tl.zeros([JOINTS * POSES, C_IN], tl.float32)
        for first in range(0, channels, C_OUT):
            at, live = _outcomes(tile, poses, V, channels, first, JOINTS, POSES, C_OUT)
            slope = tl.load(given + at, live, 0.0)
            weights = maps + (first + outer)[:, None] * (3 * C) + inner[None, :]
            real = (first + outer < channels)[:, None] & (inner < C)[None, :]
            steep0 += tl.dot(slope, tl.load(weights, real, 0.0), input_precision=HOW)
            steep1 += tl.dot(slope, tl.load(weights + C, real, 0.0), input_precision=HOW)
            steep2 += tl.dot(slope, tl.load(weights + 2 * C, real, 0.0), input_precision=HOW)
        at, live = _poses(x, tile, poses, V, C, JOINTS, POSES, C_IN)
        values = tl.load(x + at, live, 0.0)
        near0 = tl.reshape(steep0.to(values.dtype), (JOINTS, POSES * C_IN))
        near1 = tl.reshape(steep1.to(values.dtype), (JOINTS, POSES * C_IN))
        near2 = tl.reshape(steep2.to(values.dtype), (JOINTS, POSES * C_IN))
        slope = tl.dot(_edges_back(gather, 0, V, JOINTS, 3), near0, input_precision=HOW)
        slope += tl.dot(_edges_back(gather, 1, V, JOINTS, 3), near1, input_precision=HOW)
        slope += tl.dot(_edges_back(gather, 2, V, JOINTS, 3), near2, input_precision=HOW)
        if AROUND:
            slope += tl.load(around + at, live, 0.0).to(tl.float32)
        tl.store(dx + at, slope.to(dx.dtype.element_ty), live)
        values = tl.trans(values)
        edges0 += tl.dot(near0, values, input_precision=HOW)
        edges1 += tl.dot(near1, values, input_precision=HOW)
        edges2 += tl.dot(near2, values, input_precision=HOW)
    at = parts + (tl.program_id(0) * V + to) * (3 * V) + of
    live = (to < V) & (of < V)
    tl.store(at, edges0.to(parts.dtype.element_ty), live)
    tl.store(at + V, edges1.to(parts.dtype.element_ty), live)
    tl.store(at + 2 * V, edges2.to(parts.dtype.element_ty), live)


@triton.jit
def _graph_weights(  # type: ignore[no-untyped-def]
    given, x, gather, parts, poses, V, C, channels, tiles,
    JOINTS: tl.constexpr, POSES: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr,
    HOW: tl.constexpr,
):  # fmt: skip
    first, k = tl.program_id(1) * C_OUT, tl.program_id(2)
    edges = _edges(gather, k, V, JOINTS, K)
    total = tl.zeros([C_IN, C_OUT], tl.float32)
    plain = tl.zeros([JOINTS, C_OUT], tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        at, live = _poses(x, tile, poses, V, C, JOINTS, POSES, C_IN)
        values = tl.load(x + at, live, 0.0)
        at, live = _outcomes(tile, poses, V, channels, first, JOINTS, POSES, C_OUT)
        slope = tl.load(given + at, live, 0.0)
        near = tl.dot(edges, values, input_precision=HOW).to(values.dtype)
        near = tl.trans(tl.reshape(near, (JOINTS * POSES, C_IN)))
        total += tl.dot(near, slope, input_precision=HOW)
        plain += tl.sum(tl.reshape(slope.to(tl.float32), (JOINTS, POSES, C_OUT)), 1)
    inner, outer, joint = tl.arange(0, C_IN), first + tl.arange(0, C_OUT), tl.arange(0, JOINTS)
    parts += tl.program_id(0) * channels * (K * C + V)
    at = outer[None, :] * (K * C) + k * C + inner[:, None]
    tl.store(parts + at, total.to(parts.dtype.element_ty), (inner < C)[:, None] & (outer < channels)[None, :])
    at = channels * (K * C) + joint[:, None] * channels + outer[None, :]
    live = (joint < V)[:, None] & (outer < channels)[None, :] & (k == 0)
    tl.store(parts + at, plain.to(parts.dtype.element_ty), live)


class _Launch:
    """How a kernel is launched over the rows of batches, and what all kernels are told of them."""

    def __init__(self, x: Tensor, offset: Tensor | None, groups: int, parts: int = 0) -> None:
        rows, channels = x.shape
        size = rows // groups
        width = min(COLUMNS, triton.next_power_of_2(channels))
        self.tile = {"ROWS": max(1, ELEMENTS // width), "COLUMNS": width}
        across = -(-channels // width)
        if not parts:  # nothing is summed: more programs, of whole tiles
            parts = -(-size // self.tile["ROWS"])
            parts = max(1, min(parts, 4 * PROGRAMS // (across * groups) or 1))
        self.grid = (parts, across, groups)
        self.offset = x if offset is None else offset
        joints, beside = (1, 0) if offset is None else (len(offset), offset.stride(0))
        self.size, self.rows = size, -(-size // parts)
        self.sizes = {"size": size, "rows": self.rows, "channels": channels, "joints": joints, "beside": beside}
        self.has = {"OFFSET": offset is not None}


def _dropout(seed: Tensor | None, p: float) -> dict[str, Any]:
    return {"threshold": int(p * 2**32), "scale": 1 / (1 - p), "DROPS": seed is not None}


def _or(given: Tensor | None, other: Tensor) -> Tensor:
    """Return a tensor, or one that is not read."""
    return other if given is None else given


def moments(x: Tensor, offset: Tensor | None, counts: Tensor | None, groups: int) -> Tensor:
    parts = pieces(len(x) // groups, x.shape[1])
    how = _Launch(x, offset, groups, parts)
    out = x.new_empty(groups, parts, 3, x.shape[1], dtype=torch.float32)
    each = 1 if counts is None else len(x) // len(counts)
    _moments[how.grid](
        x, how.offset, _or(counts, x), out,
        **how.sizes, per_count=each, COUNTS=counts is not None, **how.has, **how.tile,
    )  # fmt: skip
    return out


def finish(
    x: Tensor,
    offset: Tensor | None,
    parts: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    around: Tensor | None,
    seed: Tensor | None,
    p: float,
    rectify: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    groups = len(parts)
    how = _Launch(x, offset, groups)
    y, found = torch.empty_like(x, dtype=dtype), parts.new_empty(groups, 3, x.shape[1])
    _finish[how.grid](
        x, how.offset, parts, weight, bias, running_mean, running_var, _or(around, x), _or(seed, x), y, found,
        **how.sizes, number_of_parts=parts.shape[1], groups=groups, momentum=momentum, eps=eps,
        AROUND=around is not None, RECTIFY=rectify, **_dropout(seed, p), **how.has, **how.tile,
    )  # fmt: skip
    return y, found


def finish_sums(
    given: Tensor,
    x: Tensor,
    offset: Tensor | None,
    found: Tensor,
    weight: Tensor,
    bias: Tensor,
    y: Tensor | None,
    seed: Tensor | None,
    p: float,
    rectify: bool,
) -> tuple[Tensor, Tensor | None]:
    groups = len(found)
    parts = pieces(len(x) // groups, x.shape[1])
    how = _Launch(x, offset, groups, parts)
    out = found.new_empty(groups, parts, 2, x.shape[1])
    around = None if y is None else torch.empty_like(x)
    _sums[how.grid](
        given, x, how.offset, found, weight, bias, _or(y, x), _or(seed, x), out, _or(around, x),
        **how.sizes, BESIDE=y is not None, RECTIFY=rectify, **_dropout(seed, p), **how.has, **how.tile,
    )  # fmt: skip
    return out, around


def finish_slopes(
    given: Tensor,
    x: Tensor,
    offset: Tensor | None,
    found: Tensor,
    weight: Tensor,
    bias: Tensor,
    parts: Tensor,
    counts: Tensor | None,
    seed: Tensor | None,
    p: float,
    rectify: bool,
) -> tuple[Tensor, Tensor]:
    groups = len(found)
    how = _Launch(x, offset, groups)
    dx, own = torch.empty_like(x), found.new_empty(2, x.shape[1])
    each = 1 if counts is None else len(x) // len(counts)
    _slopes[how.grid](
        given, x, how.offset, found, weight, bias, parts, _or(counts, x), _or(seed, x), dx, own,
        **how.sizes, per_count=each, number_of_parts=parts.shape[1], groups=groups, COUNTS=counts is not None,
        RECTIFY=rectify, **_dropout(seed, p), **how.has, **how.tile,
    )  # fmt: skip
    return dx, own


def _sizes(how: Poses) -> dict[str, Any]:
    # Products in float32 by three of TF32 are as exact; plain ones have no units of their own.
    exact = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"
    sizes = {"JOINTS": how.joints, "POSES": how.poses, "C_IN": how.c_in, "C_OUT": how.c_out}
    return {**sizes, "HOW": exact, "num_warps": 8, "num_stages": 1}


def graph(x: Tensor, gather: Tensor, maps: Tensor) -> Tensor:
    how = Poses.of(x, len(maps))
    out = x.new_empty(*x.shape[:2], len(maps))
    grid = how.tiles, -(-len(maps) // how.c_out)
    _graph[grid](
        x, gather, maps, out, len(x), *x.shape[1:], len(maps), K=len(gather) // x.shape[1], **_sizes(how)
    )  # fmt: skip
    return out


def graph_slopes(
    given: Tensor, x: Tensor, gather: Tensor, maps: Tensor, around: Tensor | None
) -> tuple[Tensor, Tensor]:
    how = Poses.of(x, len(maps))
    parts = how.parts(1)
    dx, edges = torch.empty_like(x), gather.new_empty(parts, *gather.shape)
    _graph_slopes[(parts,)](
        given, x, gather, maps, _or(around, x), dx, edges, len(x), *x.shape[1:], len(maps), how.tiles,
        AROUND=around is not None, **_sizes(how),
    )  # fmt: skip
    return dx, edges


def graph_weights(given: Tensor, x: Tensor, gather: Tensor, maps: Tensor) -> Tensor:
    how, subsets = Poses.of(x, len(maps)), len(gather) // x.shape[1]
    across = -(-len(maps) // how.c_out)
    parts = how.parts(across * subsets)
    slopes = maps.new_empty(parts, maps.numel() + x.shape[1] * len(maps))
    _graph_weights[(parts, across, subsets)](
        given, x, gather, slopes, len(x), *x.shape[1:], len(maps), how.tiles, K=subsets, **_sizes(how)
    )  # fmt: skip
    return slopes
