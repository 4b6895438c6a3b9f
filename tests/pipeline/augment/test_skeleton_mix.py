"""Skeleton Mix against the definitions of its three ways (docs/augmentation.md), one clip at a time in float64."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.augment.draws import Draws
from skelpipe.augment.skeleton_mix import KINDS, SkeletonMix
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
LAYOUTS = st.sampled_from(["kinect-v2-25", "kinect-v1-20"]).map(layout)


def clips(n: int, t: int = 50, v: int = 25, m: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, t, v, m, generator=torch.Generator().manual_seed(n + t))


def batches(count: int) -> Draws:
    return Draws(1, 0, torch.zeros(count, dtype=torch.int64), 0, torch.arange(count))


def nearest(clip: np.ndarray, frames: int) -> np.ndarray:
    """Resize [C,T,V,M] in time by nearest sampling: output frame i shows input frame floor(i * T / frames)."""
    return np.stack([clip[:, int(np.floor(i * clip.shape[1] / frames))] for i in range(frames)], axis=1)


def naive(
    x: np.ndarray, i: int, j: int, kind: str, weight: float, region: tuple[list[int], int, int]
) -> np.ndarray:
    joints, first, length = region
    mixed = x[i].astype(np.float64)
    donor = x[j].astype(np.float64)
    span = slice(4 * first, 4 * (first + length))
    if kind == "mixup":
        return mixed * (1 - weight) + donor * weight
    pasted = donor[:, span] if kind == "cutmix" else nearest(donor[:, : 8 * length], 4 * length)
    mixed[:, span, joints] = pasted[:, :, joints]
    return mixed


@settings(max_examples=40)
@given(
    LAYOUTS,
    st.sampled_from(KINDS),
    st.sampled_from([(3, 5, 50), (3, 5, 64), (1, 3, 12), (1, 2, 9), (5, 5, 20)]),
    st.integers(3, 6),
    st.integers(0, 99),
)
def test_each_kind_is_its_definition(
    skeleton: Layout, kind: str, bounds: tuple[int, int, int], n: int, seed: int
) -> None:
    op = SkeletonMix(skeleton, blocks=bounds[:2])
    x = clips(n, bounds[2], len(skeleton))
    params = op.sample(Draws(seed, 0, torch.arange(n)), x.shape)
    params["kind"] = torch.full((n,), KINDS.index(kind))
    mixed = op.mix(x, params)
    names = [name for name, on in zip(skeleton.parts, params["parts"][0].tolist(), strict=True) if on]
    joints = [joint for name in names for joint in skeleton.parts[name]]
    region = joints, int(params["first"][0]), int(params["length"][0])
    weight = float(params["weight"][0])
    share = np.full(x.shape[2:4], weight) if kind == "mixup" else np.zeros(x.shape[2:4])
    if kind != "mixup":
        share[4 * region[1] : 4 * (region[1] + region[2]), joints] = 1
    for i in range(n):
        expected = naive(x.numpy(), i, int(mixed.donor[i]), kind, weight, region)
        np.testing.assert_allclose(mixed.clip[i].numpy(), expected, rtol=0, atol=2e-6)
        np.testing.assert_allclose(mixed.mask[i].numpy(), share, rtol=0, atol=1e-7)
        taken = np.broadcast_to(share.max(0), share.shape) if kind == "resizemix" else share
        np.testing.assert_allclose(mixed.taken[i].numpy(), taken, rtol=0, atol=1e-7)
        assert int(mixed.donor[i]) != i
    outside = (mixed.region == 0)[:, None, :, :, None].expand(x.shape)
    assert torch.equal(mixed.clip[outside], x[outside])


def test_kinds_weights_and_bounds_are_drawn_as_released() -> None:
    count = 20_000
    drawn = SkeletonMix(KINECT).sample(batches(count), (count, 3, 50, 25, 2))
    kinds = Counter(KINDS[k] for k in drawn["kind"].tolist())
    expected = {"mixup": count / 4, "resizemix": count / 4, "cutmix": count / 2}
    assert sum((kinds[k] - e) ** 2 / e for k, e in expected.items()) < 13.8  # 2 degrees of freedom, p = 0.001
    weights = drawn["weight"].double().sort().values
    assert (weights - torch.arange(count) / count).abs().max() < 1.95 / count**0.5
    assert abs(float(torch.corrcoef(torch.stack([drawn["kind"].double(), drawn["weight"].double()]))[0, 1])) < 0.03
    assert set(drawn["parts"].sum(1).tolist()) == {2, 3}
    assert set(drawn["length"].tolist()) == {3, 4, 5}
    assert int(drawn["first"].max()) == 12 - 3


@pytest.mark.parametrize(("epoch", "sizes"), [(198, ({2, 3}, {3, 4, 5})), (199, ({1, 2}, {1, 2, 3}))])
def test_the_curriculum_shrinks_regions_from_epoch_200(epoch: int, sizes: tuple[set[int], set[int]]) -> None:
    draws = Draws(1, epoch, torch.arange(500), 0, torch.arange(500))
    shape = (500, 3, 50, 25, 2)
    drawn = SkeletonMix(KINECT, curriculum=True).sample(draws, shape)
    later = Draws(1, epoch + 300, torch.arange(500), 0, torch.arange(500))
    delayed = SkeletonMix(KINECT, curriculum=True, begins=300).sample(later, shape)
    assert set(delayed["length"].tolist()) == set(drawn["length"].tolist())
    assert (set(drawn["parts"].sum(1).tolist()), set(drawn["length"].tolist())) == sizes
    constant = SkeletonMix(KINECT).sample(draws, shape)
    assert set(constant["length"].tolist()) == {3, 4, 5}


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_one_kind_per_batch_or_per_sample(per: str) -> None:
    op, x = SkeletonMix(KINECT, per=per), clips(40)
    params = op.sample(Draws(0, 0, torch.arange(40)), x.shape)
    mixed = op.mix(x, params)
    assert len(params["kind"].unique()) == (1 if per == "batch" else 3)
    assert len(params["weight"].unique()) == (1 if per == "batch" else 40)
    for i, kind in enumerate(params["kind"].tolist()):
        joints = KINECT.parts.values()
        chosen = [j for part, on in zip(joints, params["parts"][i].tolist(), strict=True) if on for j in part]
        region = chosen, int(params["first"][i]), int(params["length"][i])
        expected = naive(x.numpy(), i, int(mixed.donor[i]), KINDS[kind], float(params["weight"][i]), region)
        np.testing.assert_allclose(mixed.clip[i].numpy(), expected, rtol=0, atol=2e-6)


def test_bodies_absent_from_both_stay_absent() -> None:
    x = clips(9)
    x[..., 1] = 0
    for seed in range(6):
        op = SkeletonMix(KINECT)
        y = op.apply(x, op.sample(Draws(seed, 0, torch.arange(9)), x.shape))
        assert y[..., 1].abs().max() == 0
        assert not torch.equal(y, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_rounds_once(dtype: torch.dtype, kind: str) -> None:
    op, x = SkeletonMix(KINECT), clips(5).to(dtype)
    params = op.sample(Draws(0, 0, torch.arange(5)), x.shape)
    params["kind"] = torch.full((5,), KINDS.index(kind))
    y = op.apply(x, params)
    assert y.dtype == dtype
    expected = op.apply(x.double(), params)
    torch.testing.assert_close(y.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny_batches(n: int) -> None:
    op, x = SkeletonMix(KINECT), clips(3)[:n]
    params = op.sample(Draws(0, 0, torch.arange(n)), x.shape)
    params["kind"] = torch.full((n,), KINDS.index("cutmix"))
    mixed = op.mix(x, params)
    assert mixed.donor.tolist() == [[], [0], [1, 0]][n]
    assert torch.equal(mixed.clip, x) == (n < 2)


def test_clips_too_short_for_the_region_are_refused() -> None:
    with pytest.raises(UsageError, match="5 blocks"):
        SkeletonMix(KINECT).sample(batches(2), (2, 3, 19, 25, 2))
