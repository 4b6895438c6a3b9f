"""The CPU kernels do what the torch code does that other devices and gradients take."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment import cpu_kernels
from skelpipe.augment.blend import blend, paste
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.chain import chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_mask import JointMask
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.augment.warp import warp, weigh
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
SHAPES = st.tuples(
    st.integers(1, 5), st.just(3), st.integers(1, 24), st.sampled_from([1, 17, 25]), st.integers(1, 3)
)
OPS = [
    *[GaussianBlur(probability=0.7), GaussianBlur(normalise=False), GaussianNoise(0.1, probability=0.7)],
    *[GaussianNoise(0.1, empty=True), JointMask(2, 6), JointNoise(3), TimeRescale(probability=0.7)],
]


def random(shape: tuple[int, ...], seed: int) -> Tensor:
    """Clips, of which the first lacks its last body."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x[0, ..., -1] = 0
    return x


def both(work: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the results with the kernels, and without them, since gradients are asked for."""
    assert cpu_kernels.usable(x)
    assert not cpu_kernels.usable(x.clone().requires_grad_())
    return work(x), work(x.clone().requires_grad_()).detach()


# Of frames: first, number and step of some in a row.
RUNS = st.lists(
    st.tuples(st.integers(0, 23), st.integers(1, 24), st.sampled_from([1, -1, 0])), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None)
@given(RUNS, st.sampled_from([3, 4]), st.booleans(), st.integers(0, 99))
def test_frames_that_go_on_return_or_stay(
    runs: list[tuple[int, int, int]], channels: int, around: bool, seed: int
) -> None:
    frames = torch.cat([(first + step * torch.arange(count)).clamp(0, 23) for first, count, step in runs])
    frames = frames.repeat(24)[:24].expand(2, -1)
    x, rng = random((2, channels, 24, 17, 2), seed), torch.Generator().manual_seed(seed)
    matrix, at_centre = torch.randn(2, 2, 3, 3, generator=rng)
    centred = (torch.tensor([3, 16]), at_centre) if around else (None, None)
    mixed = torch.einsum("nij,njtvm->nitvm", matrix.double(), x[:, :3].double())
    if around:
        for n, v in enumerate((3, 16)):
            mixed[n, :, :, v] = torch.einsum("ij,jtm->itm", at_centre[n].double(), x[n, :3, :, v].double())
    wanted = torch.cat([mixed, x[:, 3:].double()], 1)[:, :, frames[0]]
    found = cpu_kernels.mix(x, matrix, frames, None, *centred)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(SHAPES, st.integers(0, 99), st.booleans(), st.booleans())
def test_mixing_choosing_and_reordering(shape: tuple[int, ...], seed: int, frames: bool, joints: bool) -> None:
    n, _, t, v, _ = shape
    x, rng = random(shape, seed), torch.Generator().manual_seed(seed)
    matrix = torch.randn(n, 3, 3, generator=rng)
    chosen = torch.randint(t, (n, t), generator=rng) if frames else None
    order = torch.stack([torch.randperm(v, generator=rng) for _ in range(n)]) if joints else None
    before = x.clone()
    kernel, plain = both(lambda z: warp(z, chosen, matrix, order), x)
    torch.testing.assert_close(kernel, plain, rtol=0, atol=4e-6)
    assert torch.equal(x, before)
    exact = torch.einsum("ncj,njtvm->nctvm", matrix.double(), x.double())
    exact = exact if chosen is None else torch.stack([c[:, f] for c, f in zip(exact, chosen, strict=True)])
    exact = exact if order is None else torch.stack([c[:, :, o] for c, o in zip(exact, order, strict=True)])
    torch.testing.assert_close(kernel.double(), exact, rtol=0, atol=4e-6)


@settings(max_examples=12, deadline=None)
@given(SHAPES, st.integers(0, 99), st.booleans())
def test_a_joint_with_a_matrix_of_its_own(shape: tuple[int, ...], seed: int, joints: bool) -> None:
    n, _, t, v, _ = shape
    x, rng = random(shape, seed), torch.Generator().manual_seed(seed)
    matrix, other = torch.randn(2, n, 3, 3, generator=rng)
    frames, centre = torch.randint(t, (n, t), generator=rng), torch.randint(v, (n,), generator=rng)
    order = torch.stack([torch.randperm(v, generator=rng) for _ in range(n)]) if joints else None
    kernel, plain = both(lambda z: warp(z, frames, matrix, order, centre, other), x)
    torch.testing.assert_close(kernel, plain, rtol=0, atol=4e-6)
    for i, clip in enumerate(x.double()):
        of = torch.where((torch.arange(v) == centre[i])[:, None, None], other[i], matrix[i]).double()
        exact = torch.einsum("vcj,jtvm->ctvm", of, clip[:, frames[i]])
        exact = exact if order is None else exact[:, :, order[i]]
        torch.testing.assert_close(kernel[i].double(), exact, rtol=0, atol=4e-6)


@pytest.mark.parametrize("op", OPS, ids=repr)
@settings(max_examples=12, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_operators(op: Any, shape: tuple[int, ...], seed: int) -> None:
    x = random(shape, seed)
    params = op.sample(Draws(seed, 0, torch.arange(shape[0])), shape)
    kernel, plain = both(lambda z: op.apply(z, params), x)
    torch.testing.assert_close(kernel, plain, rtol=0, atol=4e-6)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 5), st.sampled_from([3, 4]), st.integers(1, 24), st.integers(1, 3), st.integers(0, 99))
def test_bones(n: int, c: int, t: int, m: int, seed: int) -> None:
    op, x = BoneRescale(KINECT), random((n, c, t, 25, m), seed)
    params = op.sample(Draws(seed, 0, torch.arange(n)), x.shape)
    kernel, plain = both(lambda z: op.apply(z, params), x)
    torch.testing.assert_close(kernel, plain, rtol=0, atol=4e-6)
    assert torch.equal(kernel[:, 3:], x[:, 3:])
    assert torch.equal(op.change(x.clone(), params), kernel)


def test_kernels_refuse_frames_and_joints_that_do_not_exist() -> None:
    x, on = torch.zeros(2, 3, 4, 25, 1), torch.ones(2, dtype=torch.bool)
    for frame in (-1, 4):
        with pytest.raises(IndexError, match="a frame was chosen"):
            cpu_kernels.interpolate(x, on, torch.full((2, 4), frame), torch.ones(2, 2, 4))
    for bone in ([0, 25], [-1, 0]):
        with pytest.raises(IndexError, match="lack a joint of the bones"):
            cpu_kernels.scale_bones(x, torch.ones(2, 25), torch.tensor([bone]))


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.integers(0, 99))
def test_weighing_and_pasting(shape: tuple[int, ...], seed: int) -> None:
    n, c, t, v, _ = shape
    x, rng = random(shape, seed), torch.Generator().manual_seed(seed)
    weights = torch.tensor([0.0, 1.0, 0.5])[torch.randint(3, (n, c), generator=rng)]
    assert torch.equal(weigh(x.clone(), weights, owned=True), x * weights[:, :, None, None, None])
    region, donor = torch.rand(n, t, v, generator=rng) < 0.3, torch.randint(n, (n,), generator=rng)
    mixed = paste(x, donor, region)
    assert torch.equal(mixed, torch.where(region[:, None, :, :, None], x[donor], x))
    assert torch.equal(mixed, blend(x, x[donor], region))
    each = next(k for k in (4, 3, 2, 1) if t % k == 0)  # the frames of one row of a coarser region
    coarse = torch.rand(n, t // each, v, generator=rng) < 0.3
    assert torch.equal(paste(x, donor, coarse), paste(x, donor, coarse.repeat_interleave(each, dim=1)))


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("name", ["normal", "aimclr-extreme", "msmclr-strong", "actclr-non-actionlet"])
def test_chains(name: str, variant: str) -> None:
    whole, x = chain(name, layout=KINECT, variant=variant), random((40, 3, 50, 25, 2), 1)
    params = whole.sample(Draws(0, 0, torch.arange(40)), x.shape)
    kernel, plain = both(lambda z: whole.apply(z, params), x)
    torch.testing.assert_close(kernel, plain, rtol=0, atol=1e-5)


def test_indices_out_of_bounds_are_refused() -> None:
    x, eye, on = torch.ones(2, 3, 4, 5, 2), torch.eye(3).expand(2, 3, 3), torch.ones(2, dtype=torch.bool)
    zero, pool = torch.zeros(2, dtype=torch.int64), torch.ones(130)
    for wrong in (-1, 5):
        with pytest.raises(IndexError, match="frame or joint"):
            cpu_kernels.mix(x, eye, torch.full((2, 4), wrong), None)
        with pytest.raises(IndexError, match="frame or joint"):
            cpu_kernels.mix(x, eye, None, torch.full((2, 5), wrong))
        with pytest.raises(IndexError, match="joint"):
            cpu_kernels.fill_boxes(x, torch.full((2, 1), wrong), zero, pool)
        with pytest.raises(IndexError, match="donor"):
            cpu_kernels.paste(x, zero + wrong, torch.ones(2, 4, 5, dtype=torch.bool))
        with pytest.raises(IndexError, match="index"):
            cpu_kernels.chosen(torch.zeros(2, 5, dtype=torch.int64), torch.full((2, 4), wrong))
        with pytest.raises(IndexError, match="part"):
            cpu_kernels.spans(on[:, None].expand(2, 5), torch.tensor([wrong]), zero, zero, 4, 1)
    with pytest.raises(ValueError, match="rows"):
        cpu_kernels.paste(x, zero, torch.ones(2, 3, 5, dtype=torch.bool))
    for start in (-1, 11):
        with pytest.raises(IndexError, match="pool"):
            cpu_kernels.add_noise(x, torch.ones(2), zero + start, pool, empty=True)
        with pytest.raises(IndexError, match="pool"):
            cpu_kernels.fill_boxes(x, torch.zeros(2, 5, dtype=torch.int64), zero + start, pool)
    with pytest.raises(ValueError, match="do not fit"):
        cpu_kernels.blur(x, on[:1], torch.ones(2, 15))
    with pytest.raises(ValueError, match="do not fit"):
        cpu_kernels.zero_joints(x, torch.ones(2, 4, dtype=torch.bool), zero, zero + 9)
    with pytest.raises(ValueError, match="three axes"):
        cpu_kernels.mix(torch.randn(1, 2, 4, 5, 2), torch.eye(2)[None], None, None)
    with pytest.raises(ValueError, match="contiguous"):
        cpu_kernels.scale_axes(x.transpose(2, 3), torch.ones(2, 3))
    assert (x == 1).all()
    cpu_kernels.zero_joints(x, torch.ones(2, 5, dtype=torch.bool), zero - 1, zero + 99)  # cut at both ends
    assert not x.any()
