"""The actionlet against eq. 4 and 5 of Lin et al. 2023 in float64, and how masks are resized in time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.actionlet import actionlet, difference_activation, smoothed, to_frames
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
LAYOUTS = st.sampled_from(["kinect-v2-25", "kinect-v1-20"]).map(layout)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", ["relu", "abs", "sigmoid"])
@pytest.mark.parametrize("inner", [False, True])
def test_activation_is_equations_4_and_5(inner: bool, sigma: str) -> None:
    h, dh = random(4, 2, 6, 5, 7), random(4, 2, 6, 5, 7, seed=1)
    got = difference_activation(h, dh, inner=inner, sigma=sigma).numpy()
    function = {"relu": lambda x: np.maximum(x, 0), "abs": np.abs, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}[
        sigma
    ]
    for n, m in np.ndindex(4, 2):
        expected = np.zeros((5, 7))
        for c in range(6):
            gradient = dh[n, m, c].numpy()
            weight = function(gradient).mean() if inner else gradient.mean()
            expected += weight * h[n, m, c].numpy()
        np.testing.assert_allclose(got[n, m], function(expected), rtol=0, atol=1e-12)


def test_a_gradient_of_pooled_features_stands_for_all_positions() -> None:
    """After average pooling every position has the gradient of the pooled feature over their number."""
    h, anchor, head = random(3, 2, 6, 5, 7), random(4), random(6, 4, seed=2)
    leaf = h.clone().requires_grad_()
    z = leaf.mean((1, 3, 4)) @ head
    similarity = torch.nn.functional.cosine_similarity(z, anchor.expand_as(z))
    (dense,) = torch.autograd.grad(-similarity.sum(), leaf)
    pooled = h.mean((1, 3, 4)).requires_grad_()
    (narrow,) = torch.autograd.grad(
        -torch.nn.functional.cosine_similarity(pooled @ head, anchor.expand_as(z)).sum(), pooled
    )
    few = difference_activation(h, narrow[:, None, :, None, None] / (2 * 5 * 7))
    torch.testing.assert_close(few, difference_activation(h, dense), rtol=0, atol=1e-14)
    assert few.max() > 0


def neighbours(skeleton: Layout) -> np.ndarray:
    """G of eq. 5: bones in both directions and the identity, every column divided by its sum."""
    g = np.eye(len(skeleton))
    for child, parent in skeleton.edges:
        g[child, parent] = g[parent, child] = 1
    return g / g.sum(0)


@given(LAYOUTS)
def test_smoothing_is_a_product_with_the_adjacency_or_a_mean_over_parts(skeleton: Layout) -> None:
    a = random(2, 3, 4, len(skeleton)).abs()
    got = smoothed(a, skeleton, "adjacency").numpy()
    np.testing.assert_allclose(got, a.numpy() @ neighbours(skeleton), rtol=0, atol=1e-12)
    got = smoothed(a, skeleton, "parts").numpy()
    for joints in skeleton.parts.values():
        mean = a.numpy()[..., list(joints)].mean(-1, keepdims=True)
        np.testing.assert_allclose(
            got[..., list(joints)], np.broadcast_to(mean, (2, 3, 4, len(joints))), atol=1e-12
        )
    assert smoothed(a, skeleton, "none") is a


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5])
def test_paper_cuts_at_a_share_of_each_bodys_maximum(threshold: float) -> None:
    a = random(3, 2, 4, 25).relu()
    a[1, 1] = 0
    hard = actionlet(a, KINECT, threshold=threshold)
    soft = actionlet(a, KINECT, soft=True)
    assert hard.dtype == torch.float32
    for n, m in np.ndindex(3, 2):
        map_ = a[n, m].numpy().astype(np.float32).astype(np.float64) @ neighbours(KINECT)
        share = map_ / map_.max() if map_.max() > 0 else map_
        np.testing.assert_allclose(soft[n, m].numpy(), share, rtol=0, atol=1e-6)
        clear = np.abs(share - threshold) > 1e-6
        np.testing.assert_array_equal(hard[n, m].numpy()[clear], (share > threshold)[clear])
    assert hard[1, 1].max() == 0
    assert soft[0, 0].max() == 1


def test_released_turns_a_part_on_where_any_joint_is_active() -> None:
    a = (random(3, 2, 6, 25) - 1.2).relu() + 0.001 * (random(3, 2, 6, 25, seed=4) > 1.5)
    got = actionlet(a, KINECT, variant="released")
    for joints in KINECT.parts.values():
        on = (a[..., list(joints)] > 0).any(-1, keepdim=True).float()
        assert torch.equal(got[..., list(joints)], on.expand(3, 2, 6, len(joints)))
    tiny = torch.full((1, 1, 25), 4e-9)
    torch.testing.assert_close(actionlet(tiny, KINECT, variant="released"), torch.full((1, 1, 25), 0.4))


def test_smoothing_can_be_chosen() -> None:
    a = random(2, 4, 25).relu().float()
    plain = actionlet(a, KINECT, smoothing="none", threshold=0)
    assert torch.equal(plain, (a > 0).float())
    assert not torch.equal(actionlet(a, KINECT, smoothing="parts"), actionlet(a, KINECT))
    with pytest.raises(UsageError, match="'blur'.*adjacency, parts, none"):
        actionlet(a, KINECT, smoothing="blur")
    with pytest.raises(UsageError, match="relu, abs, sigmoid, not 'tanh'"):
        difference_activation(random(2, 3, 4, 25), random(2, 3, 4, 25), sigma="tanh")
    with pytest.raises(UsageError, match="'code'"):
        actionlet(a, KINECT, variant="code")


@given(st.integers(1, 20), st.integers(1, 70), st.integers(0, 2))
def test_masks_are_stretched_with_aligned_ends(steps: int, frames: int, lead: int) -> None:
    mask = random(*[2] * lead, steps, 3).abs().clamp(max=1)
    got = to_frames(mask, frames).numpy().reshape(-1, frames, 3)
    for line, out in zip(mask.numpy().reshape(-1, steps, 3), got, strict=True):
        at = np.linspace(0, steps - 1, frames) if frames > 1 else [0]
        expected = np.stack([np.interp(at, np.arange(steps), line[:, v]) for v in range(3)], axis=1)
        np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)
    binary = (mask > 0.5).float()
    nearest = to_frames(binary, frames, "nearest").numpy().reshape(-1, frames, 3)
    source = [int(np.floor(t * steps / frames)) for t in range(frames)]
    np.testing.assert_array_equal(nearest, binary.numpy().reshape(-1, steps, 3)[:, source])


def test_a_mask_of_all_frames_is_left_and_no_mask_is_none() -> None:
    mask = torch.rand(2, 50, 25)
    assert to_frames(mask, 50) is mask
    assert to_frames(torch.empty(0, 13, 25), 50).shape == (0, 50, 25)
    with pytest.raises(UsageError, match="'cubic'"):
        to_frames(mask, 60, "cubic")
