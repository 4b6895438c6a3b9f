"""Chains: what each contains, that folding changes nothing, and what must be true of every one of them."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.centred_shear import CentredShear
from skelpipe.augment.chain import Chain, Op, chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_mask import JointMask
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.shear import Shear
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.errors import UsageError
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
NAMES = ["normal", "aimclr-extreme", "msmclr-strong", "actclr-normal", "actclr-actionlet", "actclr-non-actionlet"]
ALL = [(name, variant) for name in NAMES for variant in ("paper", "released")]


def one_by_one(whole: Chain, x: Tensor, params: tuple[dict[str, Tensor] | None, ...]) -> Tensor:
    for op, drawn in zip(whole.ops, params, strict=True):
        x = x if drawn is None else op.apply(x, drawn)
    return x


def test_chains_hold_what_the_papers_and_the_codes_do() -> None:
    front: list[Op] = [Crop(6), Shear(0.5)]
    flip, quiet, loud = SpatialFlip(KINECT), GaussianNoise(0.01, 0.5), GaussianNoise(0.05, 0.5)
    blur, raw = GaussianBlur(0.1, 2.0, 0.5), GaussianBlur(0.1, 2.0, 0.5, normalise=False)
    heard, shouted = GaussianNoise(0.01, 0.5, empty=True), GaussianNoise(0.05, 0.5, empty=True)
    turn, mask = Rotate(30, 1), AxisMask(0.5)
    eight = [*front, flip, turn, TemporalFlip(0.5), quiet, blur, mask]
    centred: list[Op] = [Crop(6), CentredShear(KINECT, 0.5)]
    seven = [*front, flip, turn, heard, raw, mask]
    expected = {
        ("normal", "paper"): front,
        ("normal", "released"): front,
        ("aimclr-extreme", "paper"): eight,
        ("aimclr-extreme", "released"): seven,
        ("actclr-normal", "paper"): front,
        ("actclr-normal", "released"): centred,
        ("actclr-actionlet", "paper"): eight,
        ("actclr-actionlet", "released"): [*centred, flip, turn, heard, raw, mask],
        ("actclr-non-actionlet", "paper"): [*eight, loud],
        ("actclr-non-actionlet", "released"): [
            *[*centred, flip, turn, shouted, raw, mask],
            *[TimeRescale(0.5, 1.5, 0.5), BoneRescale(KINECT, 0.5)],
        ],
        ("msmclr-strong", "paper"): [*front, turn, quiet, blur, JointMask(5, 15, 0.5), mask, JointNoise(5)],
        ("msmclr-strong", "released"): [*front, flip, turn, heard, raw, mask, JointNoise(1)],
    }
    assert set(expected) == set(ALL)
    for (name, variant), ops in expected.items():
        assert chain(name, layout=KINECT, variant=variant).ops == tuple(ops), (name, variant)


def test_strengths_reach_the_normal_part() -> None:
    assert chain("aimclr-extreme", layout=KINECT, shear=0.1, crop=3).ops[:2] == (Crop(3), Shear(0.1))
    assert chain("aimclr-extreme", layout=KINECT).ops == chain("actclr-actionlet", layout=KINECT).ops


@pytest.mark.parametrize(("name", "variant"), ALL)
@settings(max_examples=8, deadline=None)
@given(
    n=st.integers(1, 5),
    t=st.integers(1, 24),
    m=st.integers(1, 3),
    skeleton=st.sampled_from(["kinect-v2-25", "kinect-v1-20"]),
    seed=st.integers(0, 999),
)
def test_a_folded_chain_is_its_operators_one_by_one(
    name: str, variant: str, n: int, t: int, m: int, skeleton: str, seed: int
) -> None:
    kind = layout(skeleton)
    whole = chain(name, layout=kind, variant=variant)
    x = torch.randn(n, 3, t, len(kind), m, generator=torch.Generator().manual_seed(seed)) / 3
    draws = Draws(seed, 0, torch.arange(n))
    params = whole.sample(draws, x.shape)
    before = x.clone()
    y = whole.apply(x, params)
    torch.testing.assert_close(y, one_by_one(whole, x, params), rtol=0, atol=1e-5)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert torch.equal(x, before)
    assert torch.equal(whole(x, draws), y)


SPARE: list[Op] = [
    *[Crop(3), Shear(), CentredShear(KINECT), Rotate(90), AxisMask(), SpatialFlip(KINECT), TemporalFlip()],
    *[GaussianNoise(0.1), GaussianBlur(), TimeRescale(), BoneRescale(KINECT), JointMask(), JointNoise(2)],
    AxisMask(1.0),
]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(SPARE), max_size=8), st.integers(0, 999))
def test_any_order_of_operators_folds_rightly(ops: list[Op], seed: int) -> None:
    whole = Chain(ops)
    x = torch.randn(4, 3, 12, 25, 2, generator=torch.Generator().manual_seed(seed)) / 3
    params = whole.sample(Draws(seed, 1, torch.arange(4)), x.shape)
    before = x.clone()
    torch.testing.assert_close(whole.apply(x, params), one_by_one(whole, x, params), rtol=0, atol=2e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_a_clip_gets_the_same_in_any_batch(name: str, variant: str, clips: Callable[..., Tensor]) -> None:
    whole, x = chain(name, layout=KINECT, variant=variant), clips(24, 20)
    index = torch.arange(24) * 7
    y = whole(x, Draws(3, 4, index))
    for few in ([5], [20, 3, 11]):
        part = whole(x[few], Draws(3, 4, index[few]))
        assert torch.equal(part, y[few])
    other = whole(x, Draws(3, 5, index))
    assert (other != y).flatten(1).any(1).all()  # the next epoch differs for every clip


@pytest.mark.parametrize("name", NAMES)
def test_in_the_papers_an_absent_body_stays_absent(name: str, clips: Callable[..., Tensor]) -> None:
    x = clips(40, 20, alone=tuple(range(0, 40, 2)))
    y = chain(name, layout=KINECT)(x, Draws(0, 0, torch.arange(40)))
    assert (y[::2, ..., 1] == 0).all()
    assert (y[1::2, ..., 1] != 0).any()
    assert (y[..., 0] != 0).flatten(1).any(1).all()


def test_released_noise_falls_on_absent_bodies_too(clips: Callable[..., Tensor]) -> None:
    x = clips(40, 20, alone=tuple(range(40)))
    released = chain("aimclr-extreme", layout=KINECT, variant="released")
    params = released.sample(Draws(0, 0, torch.arange(40)), x.shape)
    y = released.apply(x, params)
    assert torch.equal((y[..., 1] != 0).flatten(1).any(1), params[4]["scale"] > 0)


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_bfloat16_stays_close(name: str, variant: str, clips: Callable[..., Tensor]) -> None:
    whole, x = chain(name, layout=KINECT, variant=variant), clips(20, 20).bfloat16()
    params = whole.sample(Draws(0, 0, torch.arange(20)), x.shape)
    y = whole.apply(x, params)
    exact = whole.apply(x.float(), params)
    assert y.dtype == torch.bfloat16
    assert torch.isfinite(y).all()
    assert (y.float() - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_gradients_flow(name: str, variant: str, clips: Callable[..., Tensor]) -> None:
    whole, x = chain(name, layout=KINECT, variant=variant), clips(6, 12).requires_grad_()
    params = whole.sample(Draws(0, 0, torch.arange(6)), x.shape)
    (gradient,) = torch.autograd.grad(whole.apply(x, params).square().sum(), x)
    (plain,) = torch.autograd.grad(one_by_one(whole, x, params).square().sum(), x)
    torch.testing.assert_close(gradient, plain, rtol=1e-3, atol=1e-3)
    assert (gradient != 0).any()


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_any_strides_are_read(name: str, variant: str, clips: Callable[..., Tensor]) -> None:
    whole, x = chain(name, layout=KINECT, variant=variant), clips(6, 12)
    turned = x.permute(0, 1, 2, 4, 3).contiguous().permute(0, 1, 2, 4, 3)
    draws = Draws(0, 0, torch.arange(6))
    torch.testing.assert_close(whole(turned, draws), whole(x, draws), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_nothing_becomes_nothing(name: str, variant: str) -> None:
    x = torch.empty(0, 3, 12, 25, 2)
    y = chain(name, layout=KINECT, variant=variant)(x, Draws(0, 0, torch.arange(0)))
    assert y.shape == x.shape


def test_outside_the_actionlet_begins_as_inside() -> None:
    inside, outside = (chain(f"actclr-{kind}", layout=KINECT) for kind in ("actionlet", "non-actionlet"))
    x = torch.randn(5, 3, 20, 25, 2, generator=torch.Generator().manual_seed(0))
    draws = Draws(0, 0, torch.arange(5))
    first, rest = outside.split(len(inside))
    a, b = inside.sample(draws, x.shape), outside.sample(draws, x.shape)
    assert [sorted(p) for p in a] == [sorted(p) for p in b[: len(inside)]]
    assert all(torch.equal(p[key], q[key]) for p, q in zip(a, b, strict=False) for key in p)
    assert torch.equal(inside(x, draws), first(x, draws))
    torch.testing.assert_close(rest(first(x, draws), draws), outside(x, draws), rtol=0, atol=1e-5)
    assert [type(op) for op in rest.ops] == [GaussianNoise]


@pytest.mark.parametrize(("kind", "counts"), [("actionlet", (5, 3, 1)), ("non-actionlet", (7, 5, 3))])
def test_curriculum_keeps_fewer_and_fewer(kind: str, counts: tuple[int, int, int]) -> None:
    whole = chain(f"actclr-{kind}", layout=KINECT, variant="released", curriculum=True)
    full = len(whole) - 2

    def kept(epoch: int, seed: int = 0) -> list[bool]:
        params = whole.sample(Draws(seed, epoch, torch.arange(3)), (3, 3, 12, 25, 2))
        return [drawn is not None for drawn in params]

    assert full == counts[0]
    for first, last, extras in zip((0, 100, 200), (99, 199, 299), counts, strict=True):
        for epoch in (first, last):
            assert kept(epoch)[:2] == [True, True]
            assert sum(kept(epoch)[2:]) == extras
    assert not any(kept(300) + kept(5000))
    middle = [kept(epoch) for epoch in range(100, 200)]
    assert middle == [kept(epoch) for epoch in range(100, 200)]
    assert len({tuple(chosen) for chosen in middle}) > 5  # redrawn each epoch
    assert any(a != b for a, b in pairwise(middle))
    assert middle != [kept(epoch, seed=1) for epoch in range(100, 200)]
    often = torch.tensor(middle, dtype=torch.float64).mean(0)[2:]
    assert (often - counts[1] / full).abs().max() < 0.2  # 4 standard deviations


def test_curriculum_applies_what_it_keeps(clips: Callable[..., Tensor]) -> None:
    whole = chain("actclr-non-actionlet", layout=KINECT, variant="released", curriculum=True)
    plain = chain("actclr-non-actionlet", layout=KINECT, variant="released")
    x = clips(5, 12)
    for epoch in (0, 150, 250, 400):
        draws = Draws(0, epoch, torch.arange(5))
        params = whole.sample(draws, x.shape)
        torch.testing.assert_close(whole(x, draws), one_by_one(whole, x, params), rtol=0, atol=1e-5)
        if epoch == 0:
            assert torch.equal(whole(x, draws), plain(x, draws))
        if epoch == 400:
            assert torch.equal(whole(x, draws), x)


def test_the_curriculum_of_a_batch_does_not_depend_on_its_clips() -> None:
    whole = chain("actclr-actionlet", layout=KINECT, variant="released", curriculum=True)
    for index in (torch.tensor([0, 1]), torch.tensor([77]), torch.arange(50)):
        params = whole.sample(Draws(4, 123, index, slot=2), (len(index), 3, 12, 25, 2))
        assert [drawn is None for drawn in params] == [
            drawn is None for drawn in whole.sample(Draws(4, 123, torch.tensor([5]), slot=2), (1, 3, 12, 25, 2))
        ]


def test_impossible_chains_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'strong'.*normal.*aimclr-extreme"):
        chain("strong")
    with pytest.raises(UsageError, match="layout"):
        chain("aimclr-extreme")
    with pytest.raises(UsageError, match="'published'"):
        chain("normal", variant="published")
    with pytest.raises(UsageError, match="curriculum"):
        chain("normal", curriculum=True)
    with pytest.raises(UsageError, match="split"):
        chain("actclr-actionlet", layout=KINECT, curriculum=True).split(2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "variant"), ALL)
def test_a_gpu_gives_the_same(name: str, variant: str, clips: Callable[..., Tensor]) -> None:
    whole, x = chain(name, layout=KINECT, variant=variant), clips(20, 50, alone=(2, 5))
    there = whole(x.cuda(), Draws(0, 0, torch.arange(20, device="cuda")))
    torch.testing.assert_close(there.cpu(), whole(x, Draws(0, 0, torch.arange(20))), rtol=0, atol=2e-5)


def test_children_drawn_together_are_the_children() -> None:
    draws = Draws(5, 6, torch.arange(40) * 13, 2)
    for i, child in enumerate(draws.children(3, 4)):
        alone = draws.child(3 + i)
        for k in (1, 8, 9):
            assert torch.equal(child.uniform(k, -1, 2), alone.uniform(k, -1, 2))
            assert torch.equal(child.integers(k, -3, 9), alone.integers(k, -3, 9))
        assert torch.equal(child.child(1).uniform(2), alone.child(1).uniform(2))
        assert torch.equal(child.shared().uniform(2), alone.shared().uniform(2))
    assert draws.children(0, 0) == []


def test_operator_number_i_draws_from_child_i() -> None:
    draws = Draws(1, 2, torch.tensor([0, 5, 77]))
    params = chain("normal").sample(draws, (3, 3, 50, 25, 2))
    drawn = [draws.child(0), draws.child(1)]
    assert torch.equal(params[0]["start"], drawn[0].integers(1, 0, 17)[:, 0])
    shares = params[1]["matrix"].view(3, 9)[:, [1, 2, 3, 5, 6, 7]]
    assert torch.equal(shares, drawn[1].uniform(6, -0.5, 0.5))


def test_skelemix_is_the_normal_chain_and_then_a_mix(clips: Callable[..., Tensor]) -> None:
    """The chain gives the mixed clips alone; the operator, given the same draws, what was mixed as well."""
    whole, x = chain("skelemix", layout=KINECT), clips(16, 64)
    front, back = whole.split(2)
    draws = Draws(2, 1, torch.arange(16), step=torch.zeros(16, dtype=torch.long))
    query = front(x, draws)
    torch.testing.assert_close(query, chain("normal")(x, draws), rtol=0, atol=0)
    (params,) = back.sample(draws, x.shape)
    mixed = SkeleMix(KINECT).mix(query, params)
    assert torch.equal(whole(x, draws), mixed.clip)
    assert mixed.region.any(dim=(1, 2)).all()
    assert (mixed.donor != torch.arange(16)).all()


class Renamed:
    """A user's own operator, which returns a view of its input."""

    def sample(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        return {}

    def apply(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        return x.view(x.shape)


def test_views_of_the_input_are_never_overwritten(clips: Callable[..., Tensor]) -> None:
    x = clips(6, 12)
    before = x.clone()
    y = Chain([Renamed(), GaussianNoise(0.01), AxisMask()])(x, Draws(0, 0, torch.arange(6)))
    assert torch.equal(x, before)
    assert not torch.equal(y, before)
