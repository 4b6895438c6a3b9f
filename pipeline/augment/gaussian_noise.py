"""Gaussian noise on every coordinate."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.chance import gate
from skelpipe.augment.clip_program import NOISE, Part
from skelpipe.augment.draws import Draws
from skelpipe.augment.noise_pool import draw_start, pool, window
from skelpipe.augment.settings import GaussianNoiseSettings
from skelpipe.views import POSITIONS, positions

__all__ = ["GaussianNoise"]


@dataclass(frozen=True, slots=True)
class GaussianNoise(GaussianNoiseSettings):
    """x' = x + n, n ~ N(0, sd) for every axis, frame, joint and body, with `probability` (Guo et al. 2022).

    `sd` is in metres. Absent bodies (zero in the whole clip) stay zero; with `empty` they get noise too, as in the
    released code (divergence `noise-on-absent-bodies`). The noise of a clip is a window of one fixed pool.
    """

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Draw `scale`, float32[N], the standard deviation or 0, and `start`, int64[N], of the pool's window."""
        unit = draws.uniform(2)
        length = min(shape[1], POSITIONS) * prod(shape[2:])
        on = gate(unit[:, 0], self.probability)
        # All clips whose gate is closed share the first window, which then is in the cache.
        return {"scale": on * unit.new_full((), self.sd), "start": on * draw_start(unit[:, 1], length)}

    def part(self, params: dict[str, Tensor], shape: Sequence[int]) -> Part:
        """Return this noise as a step of a program."""
        numbers = pool("gaussian", min(shape[1], POSITIONS) * prod(shape[2:]), params["scale"].device)
        return Part(NOISE, [params["scale"]], [params["start"]], self.empty, numbers)

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Add noise to clips [N,C,T,V,M]; same shape. Scores stay."""
        return self.change(x.clone(memory_format=torch.contiguous_format), params)

    def change(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Do as `apply`, in place."""
        n, c, t, v, m = x.shape
        rows = min(c, POSITIONS) * t
        if cpu_kernels.usable(x, params["scale"]):
            numbers = pool("gaussian", rows * v * m, x.device)
            cpu_kernels.add_noise(x, params["scale"], params["start"], numbers, empty=self.empty)
            return x
        field = window("gaussian", params["start"], rows * v * m).view(n, rows, v * m)
        scale = params["scale"][:, None]
        if not self.empty:
            scale = (scale * _present(positions(x))).repeat(1, v)
        x.view(n, c * t, v * m)[:, :rows].addcmul_(field, scale[:, None])
        return x


def _present(x: Tensor) -> Tensor:
    """Return float32[N,M]: 1 for bodies that are present, 0 for those that are zero in the whole clip."""
    n, c, t, v, m = x.shape
    sizes = (
        x.detach().reshape(n, c * t, v * m).abs().sum(1, dtype=torch.float32)
    )  # rows first: contiguous; absolute values cannot cancel
    return (sizes.view(n, v, m).sum(1) != 0).to(torch.float32)
