"""Which augmentations commute with deriving bone and motion (docs/augmentation.md), and where others do not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from skelpipe import views
from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.chain import Op
from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_mask import JointMask
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.shear import Shear
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
T = 40
N = 12


def difference(op: Op, view: str) -> Tensor:
    """Largest |derived after - derived before| of each clip and frame, [N,T]."""
    x = torch.randn(N, 3, T, 25, 2, generator=torch.Generator().manual_seed(0))
    params = op.sample(Draws(0, 0, torch.arange(N)), x.shape)
    after = views.derive(op.apply(x, params), view, KINECT)
    before = op.apply(views.derive(x, view, KINECT), params)
    return (after - before).abs().amax((1, 3, 4))


@pytest.mark.parametrize("view", ["bone", "motion"])
@pytest.mark.parametrize("op", [Shear(), Rotate(), AxisMask()])
def test_operators_that_mix_axes_commute_with_both(op: Op, view: str) -> None:
    assert difference(op, view).max() < 1e-5


@pytest.mark.parametrize(
    "op", [Crop(), TemporalFlip(), GaussianBlur(probability=1.0), TimeRescale(probability=1.0)]
)
def test_operators_of_time_alone_commute_with_bone(op: Op) -> None:
    assert difference(op, "bone").max() < 1e-5


def test_crop_commutes_with_motion_except_for_the_reflected_ends() -> None:
    x = torch.randn(17, 3, 50, 25, 2, generator=torch.Generator().manual_seed(0))
    start = torch.arange(17)
    after = views.motion(Crop().apply(x, {"start": start}))
    before = Crop().apply(views.motion(x), {"start": start})
    apart = (after - before).abs().amax((1, 3, 4)) > 1e-5
    for s in range(17):
        front, behind = 8 - s, 58 - s  # where the clip itself begins and ends in the crop
        inside = torch.zeros(50, dtype=torch.bool)
        inside[max(front, 0) : min(behind - 1, 49)] = True
        assert not (apart[s] & inside).any()
        if front > 0:  # reflected motion runs backwards: shifted by one frame, with the other sign
            forward = views.motion(x)[s, :, :front]
            torch.testing.assert_close(after[s, :, : front - 1], -forward.flip(1)[:, 1:], rtol=0, atol=1e-5)
            assert apart[s, :front].all()
    assert apart[8].sum() == 0  # the crop that changes nothing


def test_blur_commutes_with_motion_except_for_the_ends() -> None:
    apart = difference(GaussianBlur(probability=1.0), "motion") > 1e-5
    assert not apart[:, 8:-8].any()
    assert apart[:, -8:].any()


def test_temporal_flip_before_motion_reverses_and_negates() -> None:
    x = torch.randn(3, 3, T, 25, 2, generator=torch.Generator().manual_seed(0))
    on = {"on": torch.ones(3, dtype=torch.bool)}
    after = views.motion(TemporalFlip().apply(x, on))
    motion = views.motion(x)
    assert torch.equal(after[:, :, :-1], -motion[:, :, :-1].flip(2))
    assert difference(TemporalFlip(), "motion").max() > 0.1


def test_spatial_flip_commutes_with_both_where_mirror_and_tree_agree() -> None:
    assert all(KINECT.parents[KINECT.mirror[v]] == KINECT.mirror[KINECT.parents[v]] for v in range(25))
    assert difference(SpatialFlip(KINECT), "motion").max() == 0
    assert difference(SpatialFlip(KINECT), "bone").max() == 0


def test_bone_rescale_commutes_with_motion_only() -> None:
    """Bones of the rescaled clip are rescaled bones; rescaling a clip of bone vectors is something else."""
    assert difference(BoneRescale(KINECT), "motion").max() < 1e-5
    assert difference(BoneRescale(KINECT), "bone").max() > 0.1


@pytest.mark.parametrize("view", ["bone", "motion"])
@pytest.mark.parametrize("op", [GaussianNoise(0.1, 1.0), JointNoise(), JointMask(probability=1.0)])
def test_noise_and_joint_masks_commute_with_neither(op: Op, view: str) -> None:
    assert difference(op, view).max() > 0.1


def test_rescaling_time_scales_motion() -> None:
    """A clip twice as fast moves twice as far per frame: except at the ends, motion after is motion before / r."""
    t = torch.arange(T, dtype=torch.float32)
    x = (t * 0.5)[None, None, :, None, None].expand(1, 3, T, 25, 2).contiguous()  # half a metre per frame
    params = {"on": torch.tensor([True]), "ratio": torch.tensor([0.5])}
    after = views.motion(TimeRescale().apply(x, params))
    before = TimeRescale().apply(views.motion(x), params)
    torch.testing.assert_close(after[:, :, :19], 2 * before[:, :, :19], rtol=0, atol=1e-5)


def test_derived_views_of_an_absent_body_are_zero(clips: Callable[..., Tensor]) -> None:
    x = clips(4, T, alone=(0, 1, 2, 3))
    y = GaussianNoise(0.1, 1.0).apply(x, GaussianNoise(0.1, 1.0).sample(Draws(0, 0, torch.arange(4)), x.shape))
    for view in ("bone", "motion"):
        assert (views.derive(y, view, KINECT)[..., 1] == 0).all()
