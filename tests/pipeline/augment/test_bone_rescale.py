"""Bone rescale against the walk down the tree, joint by joint, in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe import views
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.draws import Draws
from skelpipe.skeleton import Layout, layout


def naive_rescale(clip: np.ndarray, factor: np.ndarray, skeleton: Layout) -> np.ndarray:
    out = clip.copy()
    walked = {skeleton.centre}
    while len(walked) < len(skeleton):
        for child, parent in skeleton.edges:
            if parent in walked and child not in walked:
                out[:, :, child] = out[:, :, parent] + (clip[:, :, child] - clip[:, :, parent]) * factor[child]
                walked.add(child)
    return out


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["kinect-v2-25", "kinect-v1-20"]), st.integers(1, 8), st.integers(1, 3), st.integers(0, 99))
def test_bones_shrink_down_the_tree(name: str, t: int, m: int, seed: int) -> None:
    skeleton = layout(name)
    x = torch.randn(3, 3, t, len(skeleton), m, generator=torch.Generator().manual_seed(seed))
    op = BoneRescale(skeleton)
    params = op.sample(Draws(seed, 0, torch.arange(3)), x.shape)
    got = op.apply(x, params).numpy()
    for clip, factor, y in zip(x.double().numpy(), params["factor"].double().numpy(), got, strict=True):
        np.testing.assert_allclose(y, naive_rescale(clip, factor, skeleton), rtol=0, atol=1e-5)


def test_each_bone_is_its_old_self_times_its_factor(kinect: Layout, clips: Callable[..., Tensor]) -> None:
    x, op = clips(), BoneRescale(kinect)
    params = op.sample(Draws(0, 0, torch.arange(6)), x.shape)
    before, after = views.bone(x, kinect), views.bone(op.apply(x, params), kinect)
    expected = before * params["factor"][:, None, None, :, None]
    torch.testing.assert_close(after, expected, rtol=0, atol=2e-5)
    assert torch.equal(op.apply(x, params)[:, :, :, kinect.centre], x[:, :, :, kinect.centre])


def test_factors_of_one_change_nothing(kinect: Layout, clips: Callable[..., Tensor]) -> None:
    x = clips()
    torch.testing.assert_close(BoneRescale(kinect).apply(x, {"factor": torch.ones(6, 25)}), x, rtol=0, atol=1e-6)
    shrunk = BoneRescale(kinect).apply(x, {"factor": torch.zeros(6, 25)})
    torch.testing.assert_close(shrunk, x[:, :, :, 20:21].expand_as(x), rtol=0, atol=1e-6)


def test_factors_are_uniform_and_independent(kinect: Layout, many: Draws, agrees: Callable[..., None]) -> None:
    factor = BoneRescale(kinect).sample(many, (len(many), 3, 1, 25, 1))["factor"].double()
    for v in (0, 7, 24):
        agrees(factor[:, v], scipy.stats.uniform(0, 0.5).cdf)
    assert torch.corrcoef(factor.T).fill_diagonal_(0).abs().max() < 5 / len(many) ** 0.5


def test_empty_bodies_stay_empty(
    kinect: Layout, clips: Callable[..., Tensor], draws: Callable[..., Draws]
) -> None:
    x, op = clips(alone=(0, 2)), BoneRescale(kinect)
    y = op.apply(x, op.sample(Draws(0, 0, torch.arange(6)), x.shape))
    assert (y[[0, 2], ..., 1] == 0).all()
    assert (y[[1, 3], ..., 1] != 0).all()


def test_lowered_matmul_precision_does_not_round(kinect: Layout, clips: Callable[..., Tensor]) -> None:
    x, op = clips(), BoneRescale(kinect)
    params = op.sample(Draws(0, 0, torch.arange(6)), x.shape)
    exact = op.apply(x, params)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            lowered = op.apply(x, params)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert lowered.dtype == torch.float32
    torch.testing.assert_close(lowered, exact, rtol=0, atol=2e-6)


def test_bfloat16_is_rounded_once_and_gradients_flow(kinect: Layout, clips: Callable[..., Tensor]) -> None:
    x, op = clips(2, 2, m=1), BoneRescale(kinect)
    params = op.sample(Draws(0, 0, torch.arange(2)), x.shape)
    half = x.bfloat16()
    assert torch.equal(op.apply(half, params), op.apply(half.float(), params).bfloat16())
    wide = x.double().requires_grad_()
    (gradient,) = torch.autograd.grad(op.apply(wide, params).square().sum(), wide)
    torch.testing.assert_close((gradient * wide).sum(), 2 * op.apply(wide, params).square().sum())


def test_another_skeleton_is_refused(kinect: Layout) -> None:
    with pytest.raises(ValueError, match="20 joints"):
        BoneRescale(kinect).apply(torch.zeros(1, 3, 2, 20, 1), {"factor": torch.ones(1, 25)})
