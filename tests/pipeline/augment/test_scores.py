"""Scores, the fourth channel: carried by what moves joints and frames, untouched by what changes positions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.centred_shear import CentredShear
from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_mask import JointMask
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.mats import mats
from skelpipe.augment.named_chains import CHAINS
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.scores import with_scores
from skelpipe.augment.shear import Shear
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.skeleton_adain import STATES, SkeletonAdaIN
from skelpipe.augment.skeleton_mix import KINDS, SkeletonMix
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.augment.warp import warp, weigh
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
N, T, V, M = 8, 48, 25, 2

UNTOUCHED = [
    Shear(),
    CentredShear(KINECT),
    Rotate(),
    AxisMask(1.0),
    GaussianNoise(0.1, 1.0),
    GaussianNoise(0.1, 1.0, empty=True),
    GaussianBlur(0.5, 2.0, 1.0),
    GaussianBlur(0.5, 2.0, 1.0, normalise=False),
    JointNoise(5),
    BoneRescale(KINECT),
    *(SkeletonAdaIN(KINECT, view, variant) for view in ("joint", "bone") for variant in ("paper", *STATES)),
]
CARRIED = [
    Crop(),
    TemporalFlip(1.0),
    SpatialFlip(KINECT, 1.0),
    TimeRescale(probability=1.0),
    JointMask(probability=1.0),
    SkeleMix(KINECT, (2, 3), (7, 11)),
    SkeleMix(KINECT, (2, 3), (7, 11), per="sample"),
    SkeletonMix(KINECT),
    SkeletonMix(KINECT, per="sample"),
]
KINDS_OF_NUMBERS = [torch.float32, torch.float64, torch.float16]


def scored(dtype: torch.dtype = torch.float32) -> Tensor:
    """Clips of positions and scores in 0..1; every third has no second body, whose scores are then 0."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, 4, T, V, M, generator=generator)
    x[:, 3] = torch.rand(N, T, V, M, generator=generator)
    x[::3, ..., 1] = 0
    return x.to(dtype)


def draws() -> Draws:
    return Draws(5, 1, torch.arange(N))


def applied(op: Any, dtype: torch.dtype, how: str = "apply") -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The clips with scores, the result of `op` and what it drew."""
    x = scored(dtype)
    params = op.sample(draws(), x.shape)
    assert_equal(params, op.sample(draws(), x[:, :3].shape))
    kept = x.clone()
    y = getattr(op, how)(x if how == "apply" else x.clone(), params)
    assert torch.equal(x, kept)
    assert y.shape == x.shape
    assert y.dtype == dtype
    return x, y, params


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("dtype", KINDS_OF_NUMBERS)
@pytest.mark.parametrize("op", UNTOUCHED, ids=lambda op: type(op).__name__)
def test_what_changes_positions_leaves_scores(op: Any, dtype: torch.dtype) -> None:
    x, y, params = applied(op, dtype)
    assert torch.equal(y[:, 3], x[:, 3])
    assert torch.equal(y[:, :3], op.apply(x[:, :3].contiguous(), params))
    assert not torch.equal(y[:, :3], x[:, :3])


@pytest.mark.parametrize("dtype", KINDS_OF_NUMBERS)
@pytest.mark.parametrize("op", CARRIED, ids=lambda op: type(op).__name__)
def test_what_moves_joints_frames_or_clips_carries_scores(op: Any, dtype: torch.dtype) -> None:
    x, y, params = applied(op, dtype)
    assert torch.equal(y[:, :3], op.apply(x[:, :3].contiguous(), params))
    # These do the same to every channel, so a score goes where an axis with its values would go.
    as_axes = op.apply(x[:, 3:].expand(-1, 3, -1, -1, -1).contiguous(), params)
    assert torch.equal(y[:, 3], as_axes[:, 0])
    assert not torch.equal(y[:, 3], x[:, 3])


@pytest.mark.parametrize(
    "op", [op for op in (*UNTOUCHED, *CARRIED) if hasattr(op, "change")], ids=lambda op: type(op).__name__
)
@pytest.mark.parametrize("dtype", KINDS_OF_NUMBERS)
def test_in_place_is_the_same(op: Any, dtype: torch.dtype) -> None:
    _, expected, _ = applied(op, dtype)
    assert torch.equal(applied(op, dtype, "change")[1], expected)


@pytest.mark.parametrize("op", [*UNTOUCHED, *CARRIED], ids=lambda op: type(op).__name__)
def test_gradients_pass(op: Any) -> None:
    """Clips that ask for gradients take another way, which gives the same."""
    x, expected, params = applied(op, torch.float32)
    leaf = x.clone().requires_grad_()
    y = op.apply(leaf, params)
    torch.testing.assert_close(y.detach(), expected, rtol=1e-5, atol=1e-5)
    (slope,) = torch.autograd.grad(y[:, 3].sum(), leaf)
    assert slope[:, 3].any()
    assert isinstance(op, SkeletonAdaIN) or not slope[:, :3].any()  # AdaIN's is NaN where a joint does not move


def test_naive_scores_of_time_and_joints(naive_crop: Callable[..., np.ndarray]) -> None:
    x = scored()
    crop = Crop(6)
    start = torch.arange(N) * 2
    cropped = crop.apply(x, {"start": start})
    for n in range(N):
        assert np.array_equal(cropped[n].numpy(), naive_crop(x[n].numpy(), 6, int(start[n])))
    on = {"on": torch.tensor([True, False] * (N // 2))}
    assert torch.equal(TemporalFlip().apply(x, on)[::2, 3], x[::2, 3].flip(1))
    mirrored = SpatialFlip(KINECT).apply(x, on)
    for v, other in enumerate(KINECT.mirror):
        assert torch.equal(mirrored[::2, 3, :, v], x[::2, 3, :, other])
    assert torch.equal(mirrored[1::2], x[1::2])


def test_a_masked_joint_was_not_seen() -> None:
    x = scored()
    joints = torch.zeros(N, V, dtype=torch.bool)
    joints[:, [4, 7]] = True
    y = JointMask().apply(x, {"joints": joints, "first": torch.full((N,), 10), "length": torch.full((N,), 5)})
    expected = x.clone()
    expected[:, :, 10:15, [4, 7]] = 0
    assert torch.equal(y, expected)


def test_time_rescale_interpolates_scores() -> None:
    x = scored()
    on, ratio = torch.ones(N, dtype=torch.bool), torch.full((N,), 0.5)
    y = TimeRescale().apply(x, {"on": on, "ratio": ratio})
    source = ((np.arange(24) + 0.5) * 2 - 0.5).clip(0, T - 1)
    for n, v, m in ((0, 3, 0), (1, 24, 1)):
        expected = np.interp(source, np.arange(T), x[n, 3, :, v, m].numpy())
        np.testing.assert_allclose(y[n, 3, :24, v, m], expected, atol=1e-6)
    assert not y[:, :, 24:].any()


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_mixed_clips_have_the_scores_of_what_they_show(kind: int) -> None:
    x = scored()
    op = SkeletonMix(KINECT)
    params = {**op.sample(draws(), x.shape), "kind": torch.full((N,), kind)}
    mixed = op.mix(x, params)
    share, donor = mixed.region[:, :, :, None], x[mixed.donor]
    if KINDS[kind] == "resizemix":
        inside = mixed.region[0].any(1).nonzero()[:, 0]
        frames = torch.arange(T)
        frames[inside] = torch.arange(len(inside)) * min(2 * len(inside), T) // len(inside)
        donor = donor[:, :, frames]
    torch.testing.assert_close(mixed.clip[:, 3], (1 - share) * x[:, 3] + share * donor[:, 3])


def test_mats_joins_scores_by_the_actionlet() -> None:
    act, non = scored(), scored().flip(0)
    mask = torch.rand(N, T, V, M, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(mats(act, non, mask)[:, 3], mask * act[:, 3] + (1 - mask) * non[:, 3])


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("name", CHAINS)
def test_chains(name: str, variant: str) -> None:
    """A folded chain is its operators one by one; its positions are those of the chain on clips without scores."""
    x = scored()
    made = chain(name, layout=KINECT, variant=variant)
    params = made.sample(draws(), x.shape)
    y = made.apply(x, params)
    without = made.apply(x[:, :3].contiguous(), made.sample(draws(), x[:, :3].shape))
    assert torch.equal(y[:, :3], without)
    alone = x
    for op, drawn in zip(made.ops, params, strict=True):
        alone = op.apply(alone, drawn)
    torch.testing.assert_close(y, alone, rtol=1e-4, atol=1e-4)
    half = made.apply(x.double(), params)
    torch.testing.assert_close(y.double(), half, rtol=1e-4, atol=1e-4)


def test_masks_after_and_before_a_matrix() -> None:
    x = scored()
    made = Chain([AxisMask(1.0), Shear(), AxisMask(1.0), TemporalFlip(1.0)])
    params = made.sample(draws(), x.shape)
    y = made.apply(x, params)
    assert torch.equal(y[:, 3], x[:, 3].flip(1))
    assert torch.equal(y[:, :3], made.apply(x[:, :3].contiguous(), params))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_warp_and_weigh(dtype: torch.dtype) -> None:
    x = scored(dtype)
    generator = torch.Generator().manual_seed(0)
    frames, joints = torch.randint(T, (N, T), generator=generator), torch.randint(V, (N, V), generator=generator)
    matrix = torch.randn(N, 3, 3, generator=generator)
    y = warp(x, frames, matrix, joints)
    expected = x.double().numpy().copy()
    for n in range(N):
        moved = x[n].double().numpy()[:, frames[n].numpy()][:, :, joints[n].numpy()]
        expected[n, :3] = np.einsum("cj,jtvm->ctvm", matrix[n].double().numpy(), moved[:3])
        expected[n, 3] = moved[3]
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(y[:, 3].double(), torch.from_numpy(expected[:, 3]))
    weights = torch.tensor([1.0, 0.0, 2.0]).expand(N, 3)
    for weighed in (weigh(x, weights), weigh(x.clone(), weights, owned=True)):
        assert torch.equal(weighed, torch.cat([x[:, :1], 0 * x[:, :1], 2 * x[:, 2:3], x[:, 3:]], dim=1))
    with pytest.raises(ValueError, match="do not fit"):
        weigh(x, torch.ones(N, 4))
    with pytest.raises(ValueError, match="does not fit"):
        warp(x, matrix=torch.eye(4).expand(N, 4, 4))


def test_with_scores() -> None:
    x = scored()
    assert torch.equal(with_scores(2 * x[:, :3], x), torch.cat([2 * x[:, :3], x[:, 3:]], dim=1))
    positions = x[:, :3]
    assert with_scores(positions, positions) is positions
