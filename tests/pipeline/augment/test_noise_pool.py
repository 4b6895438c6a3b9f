"""The pool of random numbers: its distributions, and windows of it."""

from collections.abc import Callable

import scipy
import torch

from skelpipe.augment.draws import Draws
from skelpipe.augment.noise_pool import draw_start, window


def test_the_pools_are_normal_and_uniform(agrees: Callable[..., None]) -> None:
    gaussian = window("gaussian", torch.tensor([0]), 1 << 18)[0]
    uniform = window("uniform", torch.tensor([0]), 1 << 18)[0]
    agrees(gaussian, scipy.stats.norm.cdf)
    agrees(uniform, scipy.stats.uniform.cdf)
    assert torch.isfinite(gaussian).all()
    for numbers in (
        gaussian - gaussian.mean(),
        uniform - 0.5,
    ):  # lags of axes, frames and joints
        for lag in (1, 2, 25, 50, 1024, 2500, 7500):
            r = float((numbers[lag:] * numbers[:-lag]).mean() / numbers.var())
            assert abs(r) < 4.5 / 512


def test_windows_start_anywhere(many: Draws, agrees: Callable[..., None]) -> None:
    start = draw_start(many.uniform(1)[:, 0], 7500)
    top = (1 << 20) - 7500
    assert start.min() >= 0
    assert start.max() <= top
    agrees(start / top, scipy.stats.uniform.cdf)
    pair = window("gaussian", torch.tensor([10, 13]), 20)
    assert torch.equal(pair[0, 3:], pair[1, :-3])
    wide = window("gaussian", torch.tensor([0]), 1 << 19)
    assert wide.shape == (1, 1 << 19)
