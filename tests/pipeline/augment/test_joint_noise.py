"""Joint noise against its definition for one clip, and absent bodies."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.noise_pool import window
from skelpipe.errors import UsageError

SHAPES = st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 12), st.sampled_from([20, 25]), st.integers(1, 3))


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.integers(1, 30), st.integers(0, 99))
def test_joint_noise_fills_the_box_of_the_body(shape: tuple[int, ...], count: int, seed: int) -> None:
    n, c, t, v, m = shape
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x[0, :, t // 2, :, m - 1] = 0  # a body absent from one frame
    noise = JointNoise(count)
    params = noise.sample(Draws(seed, 0, torch.arange(n)), shape)
    joints = params["joints"].tolist()
    k = min(count, v)
    unit = window("uniform", params["start"], c * t * k * m).double().view(n, c, t, k, m).numpy()
    got = noise.apply(x, params).numpy()
    for i, clip in enumerate(x.double().numpy()):
        assert len(set(joints[i])) == k
        expected = clip.copy()
        for frame in range(t):
            for body in range(m):
                pose = clip[:, frame, :, body]
                if pose.sum() == 0:
                    continue
                for number, joint in enumerate(joints[i]):
                    low, high = pose.min(1), pose.max(1)
                    expected[:, frame, joint, body] = low + (high - low) * unit[i, :, frame, number, body]
        np.testing.assert_allclose(got[i], expected, rtol=0, atol=2e-6)


def test_every_joint_is_as_likely_to_be_noise(many: Draws) -> None:
    joints = JointNoise(5).sample(many, (len(many), 3, 4, 25, 2))["joints"]
    assert joints.shape == (len(many), 5)
    counts = torch.bincount(joints.flatten(), minlength=25).numpy()
    # Without replacement the counts vary less than chi-square has it, by 20/24: the test is on the safe side.
    assert scipy.stats.chisquare(counts).pvalue > 1e-4
    assert scipy.stats.chisquare(torch.bincount(joints[:, 0], minlength=25).numpy()).pvalue > 1e-4


def test_noise_on_no_joints_changes_nothing(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x, off = clips(), JointNoise(0)
    assert torch.equal(off.apply(x, off.sample(draws(6), x.shape)), x)


def test_apply_leaves_its_input_alone(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x, op = clips(), JointNoise()
    before = x.clone()
    params = op.sample(draws(6), x.shape)
    y = op.apply(x, params)
    assert torch.equal(x, before)
    assert torch.equal(op.change(x.clone(), params), y)
    sliced = x[..., :1]
    small = op.sample(draws(6), sliced.shape)
    assert torch.equal(op.apply(sliced, small), op.apply(sliced.contiguous(), small))


def test_bfloat16_stays_close(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x, op = clips(alone=(0, 3)).bfloat16(), JointNoise()
    params = op.sample(draws(6), x.shape)
    y = op.apply(x, params)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), op.apply(x.float(), params), rtol=0.02, atol=0.02)


def test_gradients_flow_past_noise(clips: Callable[..., Tensor], draws: Callable[..., Draws]) -> None:
    x = clips(alone=(1,)).requires_grad_()
    params = JointNoise(3).sample(draws(6), x.shape)
    (gradient,) = torch.autograd.grad(JointNoise(3).apply(x, params).sum(), x)
    assert torch.isfinite(gradient).all()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="-2"):
        JointNoise(-2)
