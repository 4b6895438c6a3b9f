"""Time rescale against its definition for one clip in float64."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.errors import UsageError


def naive_rescale(clip: np.ndarray, ratio: float) -> np.ndarray:
    frames = clip.shape[1]
    length = max(math.floor(ratio * frames), 1)
    out = np.zeros(clip.shape)
    for i in range(min(length, frames)):
        source = min(max((i + 0.5) * frames / length - 0.5, 0), frames - 1)
        before = math.floor(source)
        after = min(before + 1, frames - 1)
        out[:, i] = (1 - (source - before)) * clip[:, before] + (source - before) * clip[:, after]
    return out


# Ratios in 64ths: ratio * T is exact, so that float32 and float64 floor alike.
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 2), st.lists(st.integers(32, 96), min_size=1, max_size=4))
def test_rescale_is_linear_resize_cut_or_zero_filled(t: int, m: int, steps: list[int]) -> None:
    x = torch.randn(len(steps), 3, t, 4, m, generator=torch.Generator().manual_seed(t))
    ratio = torch.tensor(steps) / 64
    got = TimeRescale().apply(x, {"on": torch.ones(len(steps), dtype=torch.bool), "ratio": ratio})
    for clip, r, y in zip(x.double().numpy(), ratio.tolist(), got.numpy(), strict=True):
        np.testing.assert_allclose(y, naive_rescale(clip, r), rtol=0, atol=1e-5)
        length = max(math.floor(r * t), 1)
        rows = torch.from_numpy(clip).permute(0, 2, 3, 1).reshape(1, -1, t)
        resized = F.interpolate(rows, length, mode="linear", align_corners=False).view(3, 4, m, length)[..., :t]
        whole = torch.zeros(3, 4, m, t).double()
        whole[..., : resized.shape[-1]] = resized
        np.testing.assert_allclose(y, whole.permute(0, 3, 1, 2).numpy(), rtol=0, atol=1e-5)


def test_rescale_leaves_clips_whose_gate_is_closed(clips: Callable[..., Tensor]) -> None:
    x = clips(4, 50)
    on = torch.tensor([True, False, True, False])
    y = TimeRescale().apply(x, {"on": on, "ratio": torch.where(on, 0.6, 1.0)})
    assert torch.equal(y[~on], x[~on])
    assert not torch.equal(y[on], x[on])
    same = TimeRescale().apply(x, {"on": torch.ones(4, dtype=torch.bool), "ratio": torch.ones(4)})
    assert torch.equal(same, x)  # so all rows may be computed where that is faster
    assert torch.equal(y[0, :, 30:], torch.zeros(3, 20, 25, 2))


def test_gradients_flow_through_rescaling(clips: Callable[..., Tensor]) -> None:
    x = clips(3, 6, 2, 1).double().requires_grad_()
    params = {"on": torch.tensor([True, False, True]), "ratio": torch.tensor([0.5, 1.0, 1.5])}
    assert torch.autograd.gradcheck(lambda a: TimeRescale().apply(a, params), (x,))


def test_ratios_and_gates_follow_their_distributions(many: Draws, agrees: Callable[..., None]) -> None:
    params = TimeRescale().sample(many, (len(many), 3, 50, 25, 2))
    on = params["on"]
    assert scipy.stats.binomtest(int(on.sum()), len(many), 0.5).pvalue > 1e-4
    assert (params["ratio"][~on] == 1).all()
    agrees(params["ratio"][on], scipy.stats.uniform(0.5, 1.0).cdf)


def test_bfloat16_stays_close(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x, op = clips(6, 30), TimeRescale(probability=1.0)
    params = op.sample(draws(6), x.shape)
    y = op.apply(x.bfloat16(), params)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, op.apply(x.bfloat16().float(), params).bfloat16(), rtol=0.01, atol=0.01)


def test_impossible_settings_are_refused() -> None:
    for low, high in ((0, 1), (1.2, 1.1)):
        with pytest.raises(UsageError, match="rescaled"):
            TimeRescale(low, high)
