"""Fixtures for augmentations: clips of any shape, draws, layouts, one batch of many draws."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.skeleton import Layout, layout

MANY = 20_000


@pytest.fixture(scope="session")
def kinect() -> Layout:
    return layout("kinect-v2-25")


@pytest.fixture(scope="session")
def clips() -> Callable[..., Tensor]:
    """Random clips [n,c,t,v,m]; those numbered in `alone` have no second body."""

    def make(
        n: int = 6, t: int = 12, v: int = 25, m: int = 2, alone: tuple[int, ...] = (), seed: int = 0
    ) -> Tensor:
        x = torch.randn(n, 3, t, v, m, generator=torch.Generator().manual_seed(seed))
        x[list(alone), ..., 1:] = 0
        return x

    return make


@pytest.fixture(scope="session")
def draws() -> Callable[..., Draws]:
    def make(n: int, seed: int = 0, epoch: int = 1) -> Draws:
        return Draws(seed, epoch, torch.arange(n) * 3)

    return make


@pytest.fixture(scope="session")
def many() -> Draws:
    """Draws of enough samples to test a distribution."""
    return Draws(11, 3, torch.arange(MANY))


@pytest.fixture(scope="session")
def agrees() -> Callable[[Tensor, Callable[[np.ndarray], np.ndarray]], None]:
    """Assert that numbers follow the distribution function given (Kolmogorov-Smirnov, p > 1e-4)."""
    from scipy import stats

    def check(values: Tensor, cdf: Callable[[np.ndarray], np.ndarray]) -> None:
        assert values.numel() >= 5000
        assert stats.kstest(values.double().numpy().ravel(), cdf).pvalue > 1e-4

    return check


@pytest.fixture(scope="session")
def naive_crop() -> Callable[[np.ndarray, int, int], np.ndarray]:
    """Crop of one clip by its definition: pad by reflection, cut."""

    def crop(clip: np.ndarray, ratio: int, start: int) -> np.ndarray:
        frames = clip.shape[1]
        p = frames // ratio if ratio else 0
        front = [clip[:, i] for i in range(p)][::-1]
        behind = [clip[:, i] for i in range(frames - p, frames)][::-1]
        padded = [*front, *(clip[:, i] for i in range(frames)), *behind]
        return np.stack(padded[start : start + frames], axis=1)

    return crop
