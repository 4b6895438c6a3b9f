"""The nearest neighbours of features by cosine, searched in float32 and decided in float64.

The similarity of features x and y is s = sum over d of (x_d / |x|) (y_d / |y|) in float64, added by halves
(`dots`): it has the same bits on every device and in any block, and equal features are exactly equally similar.
Few rows need it. With the mean m of the bank's unit rows b_j, q . b_j = q . (b_j - m) + q . m for a unit query q,
and the last term is the same for all rows: they rank as the products of q and c_j = b_j - m do. A product in
float32, its terms added in whatever order, differs from q . c_j by at most

    e = g(D + 2) max_j |c_j| + D 2^-125 + (D + 4) 2^-52,    g(n) = n u / (1 - n u),    u = 2^-24.

By Higham (2002), "Accuracy and Stability of Numerical Algorithms", section 3.1, and the inequality of Cauchy and
Schwarz a product of D terms is off by at most g(D) |q| |c_j|; the 2 is the rounding of both factors to float32.
The second term is what numbers too small for float32 lose, the third all rounding in float64, that of s included.
If t is the k-th greatest product in float32, then k rows have s >= q . m + t - e, so a row among the k nearest, or
one that ties with them, has a product in float32 of at least t - 2 e. Only such rows are compared in float64;
where they are too many for a query, all rows.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skelpipe.train.evaluation import nearest_kernels

__all__ = ["CHUNK", "dots", "nearest"]

BLOCK_BYTES = 128 * 2**20  # what one float64 block of bank rows or of similarities may take
CHUNK = 1024  # queries compared at once
ROWS = 2048  # bank rows multiplied at once on a CPU: their products with a chunk of queries stay in the cache
KEPT = 4096  # rows that a query keeps at least, before all rows are compared in float64
KEPT_ON_DEVICE = 512
CACHE = 2**20  # bytes
UNIT = 2.0**-24  # of the rounding of float32


def nearest(bank: Tensor, queries: Tensor, k: int, *, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """Return the cosine similarities, float64[Q,k] descending, and the bank rows, int64[Q,k], of the k nearest.

    `bank` is [N,D], `queries` [Q,D]; neither need be normalised. Equally similar rows are in bank order. Zeros
    have similarity 0 to everything. Where features are not finite, similarities are NaN and come first.
    """
    similarity = torch.empty(len(queries), 0, dtype=torch.float64, device=bank.device)
    index = torch.empty(len(queries), 0, dtype=torch.int64, device=bank.device)
    rows = max(1, BLOCK_BYTES // (8 * max(1, bank.shape[1])))
    for start in range(0, len(bank), rows):
        block = _Block.of(_normalised(bank[start : start + rows]))
        best, where = [], []
        for first in range(0, len(queries), chunk):
            found, row = block.nearest(_normalised(queries[first : first + chunk]), min(k, len(block.rows)))
            # Rows of earlier blocks, then those of this one: among equal ones still bank order.
            found = torch.cat([similarity[first : first + chunk], found], dim=1)
            row = torch.cat([index[first : first + chunk], row + start], dim=1)
            column = _top(found, min(k, found.shape[1]))
            best.append(found.gather(1, column))
            where.append(row.gather(1, column))
        similarity, index = torch.cat(best), torch.cat(where)
    return similarity, index


def dots(a: Tensor, b: Tensor) -> Tensor:
    """Return the sums over the last dimension of a * b, float64 [..., D] broadcast.

    Halves are added until one number is left: each device does the same operations in the same order.
    """
    x = a * b
    while (width := x.shape[-1]) > 1:
        rest = width // 2
        x[..., :rest] += x[..., width - rest :]
        x = x[..., : width - rest]
    return x.sum(dim=-1)


@dataclass(frozen=True)
class _Block:
    """Unit rows of a bank, float64[N,D], and the same minus their mean in float32.

    Products of the latter with unit queries that are further apart than `window` say which row is nearer.
    """

    rows: Tensor
    shifted: Tensor
    window: float

    @classmethod
    def of(cls, rows: Tensor) -> "_Block":
        width = rows.shape[1]
        if not width * UNIT < 0.5:
            return cls(rows, rows[:0].float(), math.inf)
        mean = rows.mean(dim=0)
        shifted = torch.empty(rows.shape, device=rows.device)
        lengths = []
        for out, part in zip(*(each.split(_step(rows)) for each in (shifted, rows)), strict=True):
            exact = part - mean
            lengths.append(exact.norm(dim=1).max())
            out.copy_(exact)
        longest = float(torch.stack(lengths).max())  # NaN where a row is not finite
        gamma = (width + 2) * UNIT / (1 - (width + 2) * UNIT)
        error = gamma * longest + width * 2.0**-125 + (width + 4) * 2.0**-52
        # The last term is for the border of the window, which is rounded to float32 itself.
        return cls(rows, shifted, 2 * error + 4 * UNIT * longest)

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return similarity and row of the k nearest to unit queries, float64[Q,k] and int64[Q,k]."""
        on_cpu = self.rows.device.type == "cpu"
        most = min(len(self.rows), max(4 * k, KEPT if on_cpu else KEPT_ON_DEVICE))
        if not math.isfinite(self.window) or 2 * k > len(self.rows):
            return self._of_all(queries, k)
        step = max(1, BLOCK_BYTES // (16 * most))
        search = self._kept if on_cpu else self._kept_on_device
        pieces = [search(query, k, most) for query in queries.split(step)]
        found, row, enough = (torch.cat(each) for each in zip(*pieces, strict=True))
        enough &= queries.isfinite().all(dim=1)
        if not enough.all():
            rest = (~enough).nonzero()[:, 0]
            found[rest], row[rest] = self._of_all(queries[rest], k)
        return found, row

    def _kept(self, queries: Tensor, k: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return similarity and row of the k nearest, and for which queries they are known, bool[Q]; on a CPU."""
        count = torch.zeros(len(queries), dtype=torch.int64)
        greatest = torch.full((len(queries), k), -math.inf)
        value = torch.empty(len(queries), most)
        index = torch.empty(len(queries), most, dtype=torch.int32)
        single = queries.float()
        memory = torch.empty(len(queries) * ROWS)
        kept = [each.numpy() for each in (greatest, value, index, count)]
        with _full_precision(queries.device):
            for first in range(0, len(self.rows), ROWS):
                rows = self.shifted[first : first + ROWS]
                out = memory[: len(queries) * len(rows)].view(len(queries), len(rows))
                products = _multiplied(single, rows.T, out)
                nearest_kernels.keep_near(products.numpy(), first, self.window, *kept)
        width = max(k, int(count.max()))
        found = torch.full((len(queries), width), -math.inf, dtype=torch.float64)
        arrays = (each.numpy() for each in (queries.contiguous(), self.rows, index, count, found))
        nearest_kernels.listed_dots(*arrays)
        column = _top(found, k)
        # Of queries without `enough` the rest of `index` was never written.
        row = index[:, :width].long().gather(1, column)
        return found.gather(1, column), row, count >= 0

    def _kept_on_device(self, queries: Tensor, k: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Do as `_kept` by operations of torch: the `most` greatest products, if those beyond are too small."""
        single = queries.float()
        value = single.new_empty(len(queries), 0)
        index = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        size = max(most, BLOCK_BYTES // (4 * max(1, len(queries))))
        with _full_precision(queries.device):
            for first in range(0, len(self.rows), size):
                products = _multiplied(single, self.shifted[first : first + size].T)
                found = torch.cat([value, products], dim=1)
                value, column = found.topk(min(most, found.shape[1]), dim=1)
                fresh = column - index.shape[1]
                old = index.gather(1, column.clamp(max=index.shape[1] - 1)) if first else fresh
                index = torch.where(fresh < 0, old, fresh + first)
        enough = value[:, -1] < value[:, k - 1] - self.window
        if most == len(self.rows):
            enough = torch.ones_like(enough)
        index = index.sort(dim=1).values  # bank order
        step = max(1, BLOCK_BYTES // (8 * index.shape[1] * max(1, queries.shape[1])))
        pieces = zip(queries.split(step), index.split(step), strict=True)
        found = torch.cat([dots(query[:, None], self.rows[row]) for query, row in pieces])
        column = _top(found, k)
        return found.gather(1, column), index.gather(1, column), enough

    def _of_all(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Compare unit queries with all rows in float64."""
        step = max(1, BLOCK_BYTES // (8 * len(self.rows)))
        best, where = [], []
        for query in queries.split(step):
            found = self._similarities(query)
            column = _top(found, k)
            best.append(found.gather(1, column))
            where.append(column)
        return torch.cat(best), torch.cat(where)

    def _similarities(self, queries: Tensor) -> Tensor:
        """Return the similarities of unit queries with all rows, float64[Q,N]."""
        found = torch.empty(len(queries), len(self.rows), dtype=torch.float64, device=queries.device)
        if queries.device.type == "cpu":
            nearest_kernels.dots(queries.contiguous().numpy(), self.rows.numpy(), found.numpy())
            return found
        step = max(1, BLOCK_BYTES // (8 * len(queries) * max(1, queries.shape[1])))
        for first in range(0, len(self.rows), step):
            found[:, first : first + step] = dots(queries[:, None], self.rows[first : first + step])
        return found


def _multiplied(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Multiply matrices, into `out` where that is given: the products whose error is bounded."""
    return torch.mm(a, b, out=out)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Multiply in float32: no TF32 or bfloat16 where that is allowed, no half precision under autocast."""
    backends: Any = torch.backends
    with torch.autocast(device.type, enabled=False):
        if not hasattr(backends, "fp32_precision"):  # torch before 2.9
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(before)
            return
        products = (backends.cuda if device.type == "cuda" else backends.mkldnn).matmul
        before = products.fp32_precision
        products.fp32_precision = "ieee"
        try:
            yield
        finally:
            products.fp32_precision = before


def _normalised(x: Tensor) -> Tensor:
    """Return rows of length 1, float64[N,D]; rows of zeros stay."""
    rows = torch.empty(x.shape, dtype=torch.float64, device=x.device)
    least = torch.finfo(torch.float64).tiny
    for out, part in zip(*(each.split(_step(x)) for each in (rows, x)), strict=True):
        length = _root(dots(out.copy_(part), out)).clamp_min_(least)
        out.div_(length[:, None])
    return rows


def _root(x: Tensor) -> Tensor:
    """Return the square roots, correctly rounded: torch's own of a CPU may be off by the last bit."""
    return torch.from_numpy(np.sqrt(x.numpy())) if x.device.type == "cpu" else x.sqrt()


def _step(rows: Tensor) -> int:
    """Return how many rows [N,D] are handled at once: on a CPU as many as its cache holds."""
    size = CACHE if rows.device.type == "cpu" else BLOCK_BYTES
    return max(1, size // (8 * max(1, rows.shape[1])))


def _top(values: Tensor, k: int) -> Tensor:
    """Return the columns of the k largest values per row, descending, equal values in column order: int64[Q,k]."""
    top, column = values.topk(k, dim=1)
    least = top[:, -1:]
    tied = (values >= least).sum(dim=1) > k  # rows where torch.topk had to choose among equal values
    if tied.any():
        v, bound = values[tied], least[tied]
        above, equal = v > bound, v == bound
        room = k - above.sum(dim=1, keepdim=True)
        column[tied] = (above | (equal & (equal.cumsum(dim=1) <= room))).nonzero()[:, 1].view(-1, k)
    column = column.sort(dim=1).values
    order = values.gather(1, column).sort(dim=1, descending=True, stable=True).indices
    return column.gather(1, order)
