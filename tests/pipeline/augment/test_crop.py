"""Crop against its definition for one clip: pad by reflection, cut."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.errors import UsageError


def clips(n: int = 4, t: int = 12, v: int = 25, m: int = 2, c: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, c, t, v, m, generator=torch.Generator().manual_seed(seed))


def draws(n: int, seed: int = 0) -> Draws:
    return Draws(seed, 1, torch.arange(n) * 3)


@given(st.integers(1, 30), st.integers(0, 40), st.integers(1, 3), st.integers(1, 2), st.data())
def test_crop_is_pad_and_cut(
    naive_crop: Callable[..., np.ndarray], t: int, ratio: int, v: int, m: int, data: st.DataObject
) -> None:
    crop = Crop(ratio)
    p = t // ratio if ratio else 0
    x = clips(3, t, v, m)
    starts = data.draw(st.lists(st.integers(0, 2 * p), min_size=3, max_size=3))
    cropped = crop.apply(x, {"start": torch.tensor(starts)})
    for clip, start, got in zip(x.numpy(), starts, cropped.numpy(), strict=True):
        np.testing.assert_array_equal(got, naive_crop(clip, ratio, start))
        padded = np.pad(clip, [(0, 0), (p, p), (0, 0), (0, 0)], mode="symmetric")
        np.testing.assert_array_equal(got, padded[:, start : start + t])


@pytest.mark.parametrize(("t", "p"), [(50, 8), (64, 10), (5, 0)])
def test_crop_starts_cover_their_range_evenly(t: int, p: int) -> None:
    start = Crop().sample(draws(8000), (8000, 3, t, 25, 2))["start"]
    assert start.shape == (8000,)
    counts = torch.bincount(start, minlength=2 * p + 1).double()
    assert len(counts) == 2 * p + 1
    expected = 8000 / (2 * p + 1)
    assert ((counts - expected) ** 2 / expected).sum() < 2 * p + 4 * (4 * p) ** 0.5 + 1


def test_crop_in_the_middle_and_ratio_zero_change_nothing() -> None:
    x = clips(t=50)
    assert torch.equal(Crop().apply(x, {"start": torch.full((4,), 8)}), x)
    off = Crop(0)
    assert torch.equal(off.apply(x, off.sample(draws(4), x.shape)), x)


def test_negative_ratios_are_refused() -> None:
    with pytest.raises(UsageError, match="must be 0"):
        Crop(-1)


def test_parameters_of_another_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Crop().apply(clips(4), Crop().sample(draws(5), (5, 3, 12, 25, 2)))
