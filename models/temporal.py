"""ST-GCN's temporal convolution: nine frames of one joint, on clips laid out as [R, T, V, C].

On a CPU in full precision, wide layers over few frames are convolved by a discrete Fourier transform of length L,
which needs about two fifths of the multiplications. Written as three real matrices, y = A ((G w) * (B x)), where
the products in the middle are matrix products over channels. A complex product is three real products (Karatsuba),
so there are about 1.5 L of them instead of 9 T. Results differ from the direct convolution by rounding only.
"""

import math
from functools import cache

import torch
from torch import Tensor, nn

__all__ = ["TemporalConvolution", "bilinear_form"]

TAPS = 9
# Below this width the transforms cost more than they save.
_MIN_CHANNELS = 32


class TemporalConvolution(nn.Conv2d):
    """A convolution over nine frames, zero beyond the ends: [R, T, V, C] -> [R, ceil(T / stride), V, C].

    The weight is [C, C, 9, 1], as in released ST-GCN checkpoints.
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(channels, channels, (TAPS, 1), stride=(stride, 1), padding=(TAPS // 2, 0))

    def forward(self, x: Tensor) -> Tensor:
        if self._gains_from_transform(x):
            return self._transformed(x)
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _gains_from_transform(self, x: Tensor) -> bool:
        frames, channels = x.shape[1], x.shape[3]
        return (
            x.device.type == "cpu"
            and not torch.compiler.is_compiling()
            and x.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled("cpu")
            and self.stride == (1, 1)
            and channels >= max(_MIN_CHANNELS, frames)
        )

    def _transformed(self, x: Tensor) -> Tensor:
        rows, frames, joints, channels = x.shape
        enter, filters, leave = _matrices(frames, x.dtype)
        spectrum = enter @ x.transpose(0, 1).reshape(frames, -1)  # [F, R*V*C]
        kernel = filters @ self.weight.permute(2, 3, 1, 0).reshape(TAPS, -1)  # [F, C*C]
        products = torch.bmm(spectrum.view(-1, rows * joints, channels), kernel.view(-1, channels, channels))
        y = leave @ products.view(len(enter), -1)  # [T, R*V*C]
        y = y.view(frames, rows, joints, channels).transpose(0, 1).contiguous()
        return y if self.bias is None else y.add_(self.bias)  # nothing else refers to these numbers


@cache
def _matrices(frames: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    # Kept for later training steps: they must not become inference tensors.
    with torch.inference_mode(False):
        enter, filters, leave = (matrix.to(dtype) for matrix in bilinear_form(frames, TAPS))
    return enter, filters, leave


def bilinear_form(frames: int, taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return B [F, T], G [F, K] and A [T, F] (float64) with  A ((G w) * (B x)) = y  for T frames and K taps,

    where y[t] = sum_k w[k] x[t + k - K//2] and x is zero outside 0..T-1. K must be odd. Length L = T + K//2 is the
    shortest for which the circular convolution wraps around into zeros only; F = 3 floor(L/2) + 1 for odd L.
    """
    centre = taps // 2
    length = frames + centre
    time = torch.arange(frames, dtype=torch.float64)
    lag = torch.arange(taps, dtype=torch.float64) - centre
    enter, filters, leave = [torch.ones_like(time)], [torch.ones_like(lag)], [torch.ones_like(time) / length]
    for frequency in range(1, length // 2 + 1):
        turn = 2 * math.pi * frequency / length
        a, b = torch.cos(turn * time), -torch.sin(turn * time)
        c, d = torch.cos(turn * lag), torch.sin(turn * lag)
        if 2 * frequency == length:  # real: one product
            enter.append(a)
            filters.append(c)
            leave.append(a / length)
            continue
        # (a + ib)(c + id) = (p - r) + i(p + q) with p = c(a+b), q = a(d-c), r = b(c+d)
        enter += [a + b, a, b]
        filters += [c, d - c, c + d]
        # and the inverse takes 2/L (real cos - imaginary sin), where sin = -b.
        leave += [2 * (a + b) / length, 2 * b / length, -2 * a / length]
    return torch.stack(enter), torch.stack(filters), torch.stack(leave, dim=1)
