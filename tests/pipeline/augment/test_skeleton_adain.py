"""Skeleton AdaIN against eq. 6 of ActCLR and the released forms, one clip at a time in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe import views
from skelpipe.augment.bone_tree import bones_of, joints_of
from skelpipe.augment.draws import Draws
from skelpipe.augment.skeleton_adain import STATES, SkeletonAdaIN
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
LAYOUTS = st.sampled_from(["kinect-v2-25", "kinect-v1-20"]).map(layout)


def clips(n: int, t: int = 12, v: int = 25, m: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, t, v, m, generator=torch.Generator().manual_seed(seed)) * 0.4 + 0.1


def equation_6(a: np.ndarray, b: np.ndarray, eps: float = 1e-3, unbiased: bool = False) -> np.ndarray:
    """Clip a [C,T,V,M] with the statistics of b."""
    less = int(unbiased and a.shape[1] > 1)
    out = np.empty(a.shape)
    for c, v, m in np.ndindex(a.shape[0], *a.shape[2:]):
        spread_a, spread_b = (np.std(z[c, :, v, m], ddof=less) for z in (a, b))
        mean_a, mean_b = (np.mean(z[c, :, :, m], axis=1) for z in (a, b))
        out[c, :, v, m] = spread_b * (a[c, :, v, m] - mean_a) / (spread_a + eps) + mean_b
    return out


def bone_lengths(a: np.ndarray, b: np.ndarray, skeleton: Layout, view: str) -> np.ndarray:
    """Clip a with the bone lengths of b: joints from the centre outwards, bones each by itself."""

    def scaled(t: int, m: int, bone_a: np.ndarray, bone_b: np.ndarray) -> np.ndarray:
        return bone_a * np.sqrt((bone_b**2).sum() + 1e-5) / np.sqrt((bone_a**2).sum() + 1e-5)

    out = np.zeros(a.shape)
    for t, m in np.ndindex(a.shape[1], a.shape[3]):
        if view == "bone":
            for v in range(len(skeleton)):
                out[:, t, v, m] = scaled(t, m, a[:, t, v, m], b[:, t, v, m])
            continue
        done = {skeleton.centre}
        out[:, t, skeleton.centre, m] = a[:, t, skeleton.centre, m]
        while len(done) < len(skeleton):
            for child, parent in skeleton.edges:
                if parent in done and child not in done:
                    bones = (z[:, t, child, m] - z[:, t, parent, m] for z in (a, b))
                    out[:, t, child, m] = out[:, t, parent, m] + scaled(t, m, *bones)
                    done.add(child)
    return out


def powers_of_lengths(a: np.ndarray, b: np.ndarray, skeleton: Layout, epoch: int) -> np.ndarray:
    """Clip a with bones towards those of b in the epoch, counted from 1: lengths over the bodies, by axis."""
    out = np.zeros(a.shape)
    for c, t in np.ndindex(a.shape[:2]):
        done = {skeleton.centre}
        out[c, t, skeleton.centre] = a[c, t, skeleton.centre]
        while len(done) < len(skeleton):
            for child, parent in skeleton.edges:
                if parent in done and child not in done:
                    bone, other = (z[c, t, child] - z[c, t, parent] for z in (a, b))  # [M]
                    own, given = (np.sqrt((z**2).sum() + 1e-5) for z in (bone, other))
                    out[c, t, child] = out[c, t, parent] + bone * (given / own) ** (100 / (epoch + 400))
                    done.add(child)
    return out


@settings(max_examples=25)
@given(LAYOUTS, st.sampled_from(views.VIEWS), st.integers(1, 4), st.integers(1, 9), st.integers(1, 2))
def test_paper_is_equation_6_for_every_view(skeleton: Layout, view: str, n: int, t: int, m: int) -> None:
    op, x = SkeletonAdaIN(skeleton, view), clips(n, t, len(skeleton), m)
    params = op.sample(Draws(0, 0, torch.arange(n)), x.shape)
    donor = params["donor"].tolist()
    wide = x.double()
    for i, got in enumerate(op.apply(wide, params).numpy()):
        np.testing.assert_allclose(got, equation_6(wide[i].numpy(), wide[donor[i]].numpy()), rtol=0, atol=1e-10)


@settings(max_examples=25)
@given(LAYOUTS, st.sampled_from(views.VIEWS), st.integers(1, 4), st.integers(1, 5), st.integers(1, 2))
def test_the_newest_code_transfers_lengths_or_statistics(
    skeleton: Layout, view: str, n: int, t: int, m: int
) -> None:
    op, x = SkeletonAdaIN(skeleton, view, "head"), clips(n, t, len(skeleton), m).double()
    params = op.sample(Draws(0, 0, torch.arange(n)), x.shape)
    donor = params["donor"].tolist()
    for i, got in enumerate(op.apply(x, params).numpy()):
        a, b = x[i].numpy(), x[donor[i]].numpy()
        statistics = view == "motion"
        expected = equation_6(a, b, unbiased=True) if statistics else bone_lengths(a, b, skeleton, view)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


@settings(max_examples=15)
@given(LAYOUTS, st.sampled_from(views.VIEWS), st.sampled_from([(0, 0), (220, 0), (310, 300)]), st.integers(1, 2))
def test_the_code_of_2023_transfers_a_power_of_lengths_that_falls_by_epoch(
    skeleton: Layout, view: str, epochs: tuple[int, int], m: int
) -> None:
    now, begins = epochs
    op, x = SkeletonAdaIN(skeleton, view, "2023-12", begins=begins), clips(3, 2, len(skeleton), m).double()
    params = op.sample(Draws(0, now, torch.arange(3)), x.shape)
    donor = params["donor"].tolist()
    for i, got in enumerate(op.apply(x, params).numpy()):
        expected = powers_of_lengths(x[i].numpy(), x[donor[i]].numpy(), skeleton, now - begins + 1)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", ["paper", *STATES])
@pytest.mark.parametrize("view", views.VIEWS)
def test_float32_and_half_stay_near_float64(variant: str, view: str) -> None:
    op, x = SkeletonAdaIN(KINECT, view, variant), clips(6, 50)
    params = op.sample(Draws(0, 0, torch.arange(6)), x.shape)
    exact = op.apply(x.double(), params)
    torch.testing.assert_close(op.apply(x, params).double(), exact, rtol=0, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(op.apply(x, params), op.apply(x, params))
        torch.testing.assert_close(op.apply(x, params).double(), exact, rtol=0, atol=1e-5)
    half = x.to(torch.bfloat16)
    y = op.apply(half, params)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), op.apply(half.double(), params), rtol=2**-8, atol=1e-5)


def test_swapped_statistics_are_the_donors() -> None:
    x = clips(5, 40).double()
    x -= x.mean(3, keepdim=True)
    op = SkeletonAdaIN(KINECT, eps=0)
    params = op.sample(Draws(0, 0, torch.arange(5)), x.shape)
    y, donor = op.apply(x, params), params["donor"]
    # Where the mean over joints is zero, joints move as much as those of the donor.
    torch.testing.assert_close(y.std(2), x.std(2)[donor], rtol=0, atol=1e-12)
    again = SkeletonAdaIN(KINECT, variant="head")
    lengths = [bones_of(z, KINECT).norm(dim=1) for z in (again.apply(x, params), x[donor])]
    torch.testing.assert_close(lengths[0], lengths[1], rtol=0, atol=5e-3)  # the square root of 1e-5


def test_an_absent_body_stays_absent_and_a_donors_absence_changes_nothing() -> None:
    x = clips(7)
    x[:4, ..., 1] = 0
    for view in views.VIEWS:
        op = SkeletonAdaIN(KINECT, view)
        params = op.sample(Draws(0, 0, torch.arange(7)), x.shape)
        y, donor = op.apply(x, params), params["donor"]
        for i in range(7):
            if i < 4:
                assert y[i, ..., 1].abs().max() == 0
            else:
                assert torch.equal(y[i, ..., 1], x[i, ..., 1]) == bool(donor[i] < 4)
            assert not torch.equal(y[i, ..., 0], x[i, ..., 0])
    for view, variant in (("joint", "head"), ("bone", "head"), *((view, "2023-12") for view in views.VIEWS)):
        op = SkeletonAdaIN(KINECT, view, variant)
        params = op.sample(Draws(0, 0, torch.arange(7)), x.shape)
        assert op.apply(x, params)[:4, ..., 1].abs().max() == 0


@pytest.mark.parametrize("variant", ["paper", *STATES])
def test_a_clip_alone_keeps_its_statistics_and_no_clips_are_none(variant: str) -> None:
    op, x = SkeletonAdaIN(KINECT, variant=variant, eps=0), clips(1)
    params = op.sample(Draws(0, 0, torch.arange(1)), x.shape)
    torch.testing.assert_close(op.apply(x, params), x, rtol=0, atol=1e-5)
    nothing = x[:0]
    assert op.apply(nothing, op.sample(Draws(0, 0, torch.arange(0)), nothing.shape)).shape == nothing.shape


@given(LAYOUTS, st.integers(1, 3))
def test_joints_grow_from_their_bones(skeleton: Layout, m: int) -> None:
    x = clips(2, 3, len(skeleton), m)
    bones = bones_of(x, skeleton)
    assert torch.equal(bones, views.bone(x, skeleton))
    bones[:, :, :, skeleton.centre] = 7  # has no effect
    torch.testing.assert_close(joints_of(bones, x[:, :, :, skeleton.centre], skeleton), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["2023-joint", "2023-joint-late", "2023-bone", "2023-motion", "head-joint", "head-bone", "head-motion"]
)
def test_released_forms_are_the_authors(name: str, recording: Callable[[str], Any], float64: None) -> None:
    recorded = recording(f"augment-adain-{name}")
    state = "2023-12" if name.startswith("2023") else "head"
    op = SkeletonAdaIN(KINECT, recorded.options["view"], state)
    found = op.apply(recorded["x"].clone(), recorded.group("param"))
    assert float((found - recorded["y"]).abs().max()) < 1e-12
    assert float((recorded["x"] - recorded["y"]).abs().max()) > 0.3
    assert not recorded.unread


def test_unknown_forms_are_refused() -> None:
    with pytest.raises(UsageError, match="'2023-12' or 'head', not 'code'"):
        SkeletonAdaIN(KINECT, variant="code")
    with pytest.raises(UsageError, match="'angle'.*joint, bone, motion"):
        SkeletonAdaIN(KINECT, "angle")
