"""Joint mask against its definition for one clip, and the bounds and distributions of its draws."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.joint_mask import JointMask
from skelpipe.errors import UsageError


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 20), st.sampled_from([3, 20, 25]), st.integers(1, 2)),
    st.integers(0, 99),
)
def test_mask_zeroes_joints_in_a_span(shape: tuple[int, ...], seed: int) -> None:
    n, _, t, v, _ = shape
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    mask = JointMask(probability=0.8)
    params = mask.sample(Draws(seed, 0, torch.arange(n)), shape)
    got = mask.apply(x, params).numpy()
    for i, clip in enumerate(x.numpy()):
        first, length = int(params["first"][i]), int(params["length"][i])
        joints = params["joints"][i].nonzero()[:, 0].tolist()
        assert t // 4 <= length <= t // 2
        assert 0 <= first <= t - length
        assert len(joints) == 0 or min(5, v) <= len(joints) <= min(15, v)
        expected = clip.copy()
        for frame in range(first, first + length):
            expected[:, frame, joints] = 0
        np.testing.assert_array_equal(got[i], expected)
    assert torch.equal(mask.change(x.clone(), params), torch.from_numpy(got))
    assert torch.equal(mask.apply(torch.from_numpy(got), params), torch.from_numpy(got))


def test_draws_follow_their_distributions(many: Draws) -> None:
    params = JointMask().sample(many, (len(many), 3, 50, 25, 2))
    counts = params["joints"].sum(1)
    on = counts > 0
    assert scipy.stats.binomtest(int(on.sum()), len(many), 0.5).pvalue > 1e-4
    sizes = torch.bincount(counts[on], minlength=16)
    assert sizes[:5].sum() == 0
    assert scipy.stats.chisquare(sizes[5:16].numpy()).pvalue > 1e-4
    lengths = torch.bincount(params["length"], minlength=26)
    assert lengths[:12].sum() == 0
    assert scipy.stats.chisquare(lengths[12:].numpy()).pvalue > 1e-4
    twelve = params["first"][params["length"] == 12]
    assert scipy.stats.chisquare(torch.bincount(twelve, minlength=39).numpy()).pvalue > 1e-4
    assert scipy.stats.chisquare(params["joints"].sum(0).numpy()).pvalue > 1e-4


def test_nothing_to_mask_changes_nothing(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x = clips()
    for off in (JointMask(0, 0), JointMask(probability=0.0)):
        assert torch.equal(off.apply(x, off.sample(draws(6), x.shape)), x)


def test_gradient_is_the_mask(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x = clips().requires_grad_()
    mask = JointMask(probability=1.0)
    params = mask.sample(draws(6), x.shape)
    (gradient,) = torch.autograd.grad(mask.apply(x, params).sum(), x)
    expected = mask.keep(params, 12)[:, None, :, :, None].expand_as(x)
    assert torch.equal(gradient, expected)
    assert 0 < expected.mean() < 1


def test_bfloat16_is_exact(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x = clips().bfloat16()
    params = JointMask(probability=1.0).sample(draws(6), x.shape)
    y = JointMask().apply(x, params)
    assert torch.equal(y, JointMask().apply(x.float(), params).bfloat16())


@pytest.mark.parametrize("bounds", [(-1, 3), (4, 3)])
def test_impossible_settings_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="joint mask"):
        JointMask(*bounds)
