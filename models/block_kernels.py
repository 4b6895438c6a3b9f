"""What follows the sums of batch normalisation in a block, on a CPU, in one pass over its rows.

As in `channel_kernels`, rows are joined, and blocks of a fixed length are summed in their order. Each step is
rounded to float32 as if it were written to memory and read again, so that results are those of separate passes.
"""

import numpy as np

from skelpipe.augment.cpu_kernels import kernel
from skelpipe.models.channel_kernels import BLOCK, in_parts, summed

__all__ = ["finish", "finish_slope", "finish_sums", "rectify", "rectify_slope", "rectify_sums"]


def rectify(x: np.ndarray, factors: np.ndarray, out: np.ndarray) -> None:
    """Write max(0, factors[0] * x + factors[1]) to `out`."""
    in_parts(_rectify, x, out, factors)


def rectify_sums(x: np.ndarray, given: np.ndarray, out: np.ndarray, channels: int) -> np.ndarray:
    """Return the sums of g and of x g, float64[2, C]; g is `given` where `out` is positive, else 0."""
    return summed(_rectify_sums, channels, x, given, out)


def rectify_slope(
    x: np.ndarray, given: np.ndarray, out: np.ndarray, factors: np.ndarray, slopes: np.ndarray
) -> None:
    """Write factors[0] * g + factors[1] * x + factors[2] to `slopes`, g as in `rectify_sums`."""
    in_parts(_rectify_slope, x, given, out, slopes, factors)


def finish(
    x: np.ndarray, around: np.ndarray, factors: np.ndarray, drawn: np.ndarray, least: int, out: np.ndarray
) -> None:
    """Write max(0, (factors[0] * x + factors[1]) keep + around) to `out`.

    With uint8 `drawn`, keep is 256 / (256 - least) where they are at least `least`, else 0; 1 with `least` 0.
    """
    in_parts(_finish, x, around, out, factors, drawn, least, _scale(least))


def finish_sums(
    x: np.ndarray,
    given: np.ndarray,
    out: np.ndarray,
    drawn: np.ndarray,
    least: int,
    around: np.ndarray,
    channels: int,
) -> np.ndarray:
    """Write the gradient of `around` to it; return the sums of g and of x g, where g is it times keep."""
    return summed(_finish_sums, channels, x, given, out, around, drawn, least, _scale(least))


def finish_slope(
    x: np.ndarray, around: np.ndarray, drawn: np.ndarray, least: int, factors: np.ndarray, slopes: np.ndarray
) -> None:
    """Write factors[0] * g + factors[1] * x + factors[2] to `slopes`, g as in `finish_sums`."""
    in_parts(_finish_slope, x, around, slopes, factors, drawn, least, _scale(least))


def _scale(least: int) -> np.float32:
    return np.float32(256 / (256 - least))


@kernel
def _rectify(low: int, high: int, x: np.ndarray, out: np.ndarray, factors: np.ndarray) -> None:
    rows, width = x.shape
    scale, shift = factors[0], factors[1]
    for r in range(low * BLOCK, min(rows, high * BLOCK)):
        row, y = x[r], out[r]
        for c in range(width):
            a = np.float32(row[c] * scale[c] + shift[c])
            y[c] = np.float32(0) if a <= 0 else a


@kernel
def _rectify_sums(
    low: int, high: int, x: np.ndarray, given: np.ndarray, out: np.ndarray, sums: np.ndarray
) -> None:
    rows, width = x.shape
    for block in range(low, high):
        plain, along = sums[block, 0], sums[block, 1]
        for r in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            row, g, y = x[r], given[r], out[r]
            for c in range(width):
                a = np.float64(np.float32(0) if y[c] <= 0 else g[c])
                plain[c] += a
                along[c] += a * row[c]


@kernel
def _rectify_slope(
    low: int,
    high: int,
    x: np.ndarray,
    given: np.ndarray,
    out: np.ndarray,
    slopes: np.ndarray,
    factors: np.ndarray,
) -> None:
    rows, width = x.shape
    direct, along, constant = factors[0], factors[1], factors[2]
    for r in range(low * BLOCK, min(rows, high * BLOCK)):
        row, g, y, dx = x[r], given[r], out[r], slopes[r]
        for c in range(width):
            a = np.float32(0) if y[c] <= 0 else g[c]
            dx[c] = np.float32(a * direct[c] + (row[c] * along[c] + constant[c]))


@kernel
def _finish(
    low: int,
    high: int,
    x: np.ndarray,
    around: np.ndarray,
    out: np.ndarray,
    factors: np.ndarray,
    drawn: np.ndarray,
    least: int,
    keep: np.float32,
) -> None:
    rows, width = x.shape
    scale, shift = factors[0], factors[1]
    for r in range(low * BLOCK, min(rows, high * BLOCK)):
        row, beside, y = x[r], around[r], out[r]
        if least:
            word = drawn[r]
            for c in range(width):
                a = np.float32(row[c] * scale[c] + shift[c])
                a = a * (keep if word[c] >= least else np.float32(0)) + beside[c]
                y[c] = np.float32(0) if a <= 0 else a
        else:
            for c in range(width):
                a = np.float32(row[c] * scale[c] + shift[c]) + beside[c]
                y[c] = np.float32(0) if a <= 0 else a


@kernel
def _finish_sums(
    low: int,
    high: int,
    x: np.ndarray,
    given: np.ndarray,
    out: np.ndarray,
    around: np.ndarray,
    drawn: np.ndarray,
    least: int,
    keep: np.float32,
    sums: np.ndarray,
) -> None:
    rows, width = x.shape
    for block in range(low, high):
        plain, along = sums[block, 0], sums[block, 1]
        for r in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            row, g, y, beside = x[r], given[r], out[r], around[r]
            if least:
                word = drawn[r]
                for c in range(width):
                    through = np.float32(0) if y[c] <= 0 else g[c]
                    beside[c] = through
                    a = np.float64(through * (keep if word[c] >= least else np.float32(0)))
                    plain[c] += a
                    along[c] += a * row[c]
            else:
                for c in range(width):
                    through = np.float32(0) if y[c] <= 0 else g[c]
                    beside[c] = through
                    a = np.float64(through)
                    plain[c] += a
                    along[c] += a * row[c]


@kernel
def _finish_slope(
    low: int,
    high: int,
    x: np.ndarray,
    around: np.ndarray,
    slopes: np.ndarray,
    factors: np.ndarray,
    drawn: np.ndarray,
    least: int,
    keep: np.float32,
) -> None:
    rows, width = x.shape
    direct, along, constant = factors[0], factors[1], factors[2]
    for r in range(low * BLOCK, min(rows, high * BLOCK)):
        row, g, dx = x[r], around[r], slopes[r]
        if least:
            word = drawn[r]
            for c in range(width):
                a = g[c] * (keep if word[c] >= least else np.float32(0))
                dx[c] = np.float32(a * direct[c] + (row[c] * along[c] + constant[c]))
        else:
            for c in range(width):
                dx[c] = np.float32(g[c] * direct[c] + (row[c] * along[c] + constant[c]))
