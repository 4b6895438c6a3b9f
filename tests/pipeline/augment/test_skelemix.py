"""SkeleMix against its definition (Chen et al. 2022, section III-B), one clip at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.augment.blend import blend
from skelpipe.augment.draws import Draws
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
LAYOUTS = st.sampled_from(["kinect-v2-25", "kinect-v1-20"]).map(layout)


def clips(n: int, t: int = 64, v: int = 25, m: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, t, v, m, generator=torch.Generator().manual_seed(n + t))


def naive(
    x: np.ndarray, skeleton: Layout, shift: int, parts: list[str], first: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return mixed clips and the mask in blocks, joint by joint."""
    joints = [joint for part in parts for joint in skeleton.parts[part]]
    mixed = x.copy()
    for i in range(len(x)):
        for t in range(4 * first, 4 * (first + length)):
            for joint in joints:
                mixed[i, :, t, joint, :] = x[(i + shift) % len(x), :, t, joint, :]
    mask = np.zeros((x.shape[2] // 4, x.shape[3]))
    mask[np.ix_(range(first, first + length), joints)] = 1
    return mixed, mask


@given(LAYOUTS, st.integers(1, 6), st.sampled_from([8, 32, 64]), st.integers(1, 2), st.integers(0, 99))
def test_it_is_the_definition(skeleton: Layout, n: int, t: int, m: int, seed: int) -> None:
    op = SkeleMix(skeleton, parts=(2, 4), blocks=(1, 2))
    x = clips(n, t, len(skeleton), m)
    params = op.sample(Draws(seed, 0, torch.arange(n) * 7), x.shape)
    mixed = op.mix(x, params)
    names = [name for name, on in zip(skeleton.parts, params["parts"][0].tolist(), strict=True) if on]
    shift = int(mixed.donor[0])
    assert shift == {1: 0, 2: 1}.get(n, shift)
    clip, mask = naive(x.numpy(), skeleton, shift, names, int(params["first"][0]), int(params["length"][0]))
    np.testing.assert_array_equal(mixed.clip.numpy(), clip)
    assert mixed.mask.shape == (n, t // 4, len(skeleton))
    assert mixed.region.shape == (n, t, len(skeleton))
    for i in range(n):
        np.testing.assert_array_equal(mixed.mask[i].numpy(), mask)
        np.testing.assert_array_equal(mixed.region[i].numpy(), np.kron(mask, np.ones((4, 1))))
        assert int(mixed.donor[i]) == (i + shift) % n
    assert torch.equal(op.apply(x, params), mixed.clip)


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_own_clip_outside_and_donor_inside_the_region(per: str) -> None:
    op, x = SkeleMix(KINECT, per=per), clips(16)
    mixed = op.mix(x, op.sample(Draws(0, 3, torch.arange(16)), x.shape))
    inside = mixed.region[:, None, :, :, None].expand(x.shape)
    assert torch.equal(mixed.clip[~inside], x[~inside])
    assert torch.equal(mixed.clip[inside], x[mixed.donor][inside])
    assert not (mixed.donor == torch.arange(16)).any()
    assert len({int(j - i) % 16 for i, j in enumerate(mixed.donor)}) == 1
    assert len(mixed.mask.flatten(1).unique(dim=0)) == (1 if per == "batch" else 16)
    blocks, joints = mixed.mask.any(2).sum(1), mixed.mask.any(1).sum(1)
    assert torch.equal(mixed.mask.sum((1, 2)), blocks * joints)
    assert int(blocks.min()) >= 7
    assert int(blocks.max()) <= 11
    assert int(joints.min()) >= 8
    assert int(joints.max()) <= 17


def test_zeros_leave_the_region_empty_and_the_rest_as_it_is() -> None:
    x = clips(6)
    mixed = SkeleMix(KINECT).mix(x, SkeleMix(KINECT).sample(Draws(4, 0, torch.arange(6)), x.shape))
    op = SkeleMix(KINECT, fill="zeros")
    params = op.sample(Draws(4, 0, torch.arange(6)), x.shape)
    empty = op.mix(x, params)
    inside = empty.region[:, None, :, :, None].expand(x.shape)
    assert not empty.clip[inside].any()
    assert torch.equal(empty.clip[~inside], x[~inside])
    assert all(torch.equal(getattr(empty, name), getattr(mixed, name)) for name in ("donor", "region", "mask"))


def test_random_joints_instead_of_parts() -> None:
    op, x = SkeleMix(KINECT, cropping="random", random_joints=(3, 8)), clips(6)
    params = op.sample(Draws(4, 0, torch.arange(6)), x.shape)
    mixed = op.mix(x, params)
    expected = x.numpy().copy()
    frames = slice(4 * int(params["first"][0]), 4 * int(params["first"][0] + params["length"][0]))
    for i in range(6):
        for joint in params["joints"][i].nonzero()[:, 0].tolist():
            expected[i, :, frames, joint] = x[mixed.donor[i], :, frames, joint]
    np.testing.assert_array_equal(mixed.clip.numpy(), expected)
    with pytest.raises(UsageError, match="fill is mix or zeros, not 'noise'"):
        SkeleMix(KINECT, fill="noise")
    with pytest.raises(UsageError, match="cropping is topology or random, not 'joints'"):
        SkeleMix(KINECT, cropping="joints")


def test_equal_clips_and_a_clip_alone_stay_as_they_are() -> None:
    op = SkeleMix(KINECT)
    for x in (clips(1).expand(5, -1, -1, -1, -1), clips(1)):
        params = op.sample(Draws(0, 0, torch.arange(len(x))), x.shape)
        assert torch.equal(op.apply(x, params), x)


def test_no_clips_are_no_clips() -> None:
    x = clips(3)[:0]
    op = SkeleMix(KINECT)
    mixed = op.mix(x, op.sample(Draws(0, 0, torch.arange(0)), x.shape))
    assert mixed.clip.shape == x.shape
    assert mixed.mask.shape == (0, 16, 25)


def test_bodies_come_from_the_same_body_of_the_donor() -> None:
    x = clips(6)
    x[:3, ..., 1] = 0  # absent
    op = SkeleMix(KINECT)
    mixed = op.mix(x, op.sample(Draws(1, 1, torch.arange(6)), x.shape))
    for i in range(6):
        absent = bool(i < 3) and bool(mixed.donor[i] < 3)
        inside = mixed.clip[i, :, :, :, 1][:, mixed.region[i]]
        assert bool((inside == 0).all()) == bool(mixed.donor[i] < 3)
        assert bool((mixed.clip[i, ..., 1] == 0).all()) == absent


@pytest.mark.parametrize(
    ("frames", "words"),
    [(50, r"50.*48 or 52"), (45, r"45.*44 or 48"), (30, r"30: prepare.* with 44 frames")],
)
def test_frames_must_be_whole_blocks(frames: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SkeleMix(KINECT).sample(Draws(0, 0, torch.arange(4)), (4, 3, frames, 25, 2))


def test_replaying_parameters_gives_the_same_and_leaves_the_clips() -> None:
    op, x = SkeleMix(KINECT), clips(8)
    before = x.clone()
    params = op.sample(Draws(2, 0, torch.arange(8)), x.shape)
    first, second = op.mix(x, params), op.mix(x, params)
    assert torch.equal(first.clip, second.clip)
    assert torch.equal(x, before)
    again = op.sample(Draws(2, 0, torch.arange(8)), x.shape)
    assert all(torch.equal(params[key], again[key]) for key in params)
    later = op.sample(Draws(2, 1, torch.arange(8)), x.shape)
    assert any(not torch.equal(params[key], later[key]) for key in params)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_and_strides(dtype: torch.dtype) -> None:
    op, x = SkeleMix(KINECT), clips(6).to(dtype)
    params = op.sample(Draws(0, 0, torch.arange(6)), x.shape)
    mixed = op.mix(x, params)
    assert mixed.clip.dtype == dtype
    inside = mixed.region[:, None, :, :, None]
    assert torch.equal(mixed.clip, torch.where(inside, x[mixed.donor], x))
    odd = x.permute(0, 1, 2, 4, 3).contiguous().permute(0, 1, 2, 4, 3)
    assert torch.equal(op.apply(odd, params), mixed.clip)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(op.apply(x, params), mixed.clip)


def test_blend_takes_shares_per_joint_and_per_body() -> None:
    x, y = clips(3, 8).double(), clips(4, 8)[:3].double()
    for shape in [(3, 8, 25), (3, 8, 25, 1), (3, 8, 25, 2)]:
        share = torch.rand(shape, dtype=torch.float64)
        wide = share.numpy()[:, None] if share.dim() == 4 else share.numpy()[:, None, ..., None]
        expected = (1 - wide) * x.numpy() + wide * y.numpy()
        np.testing.assert_allclose(blend(x, y, share).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_mixes_the_same() -> None:
    op, x = SkeleMix(KINECT), clips(8)
    here = op.mix(x, op.sample(Draws(2, 0, torch.arange(8)), x.shape))
    there = op.mix(x.cuda(), op.sample(Draws(2, 0, torch.arange(8).cuda()), x.shape))
    assert torch.equal(here.clip, there.clip.cpu())
    assert torch.equal(here.mask, there.mask.cpu())
