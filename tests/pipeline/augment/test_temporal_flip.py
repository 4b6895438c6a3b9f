"""Temporal flip against its definition for one clip."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.errors import UsageError


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 33), st.integers(1, 3), st.lists(st.booleans(), min_size=1, max_size=5))
def test_temporal_flip_reverses(t: int, m: int, on: list[bool]) -> None:
    x = torch.randn(len(on), 3, t, 4, m, generator=torch.Generator().manual_seed(t))
    params = {"on": torch.tensor(on)}
    got = TemporalFlip().apply(x, params)
    for clip, flipped, y in zip(x.numpy(), on, got.numpy(), strict=True):
        np.testing.assert_array_equal(y, clip[:, ::-1] if flipped else clip)
    assert torch.equal(TemporalFlip().apply(got, params), x)


def test_half_of_the_clips_are_flipped(many: Draws) -> None:
    flipped = TemporalFlip().sample(many, (len(many), 3, 50, 25, 2))["on"]
    assert scipy.stats.binomtest(int(flipped.sum()), len(many), 0.5).pvalue > 1e-4


def test_bfloat16_stays_close(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x, op = clips(6, 30), TemporalFlip()
    params = op.sample(draws(6), x.shape)
    y = op.apply(x.bfloat16(), params)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, op.apply(x.bfloat16().float(), params).bfloat16(), rtol=0.01, atol=0.01)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        TemporalFlip(2)
