"""Centred shear: as a shear, but for the centre."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.centred_shear import CentredShear
from skelpipe.augment.chain import Chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.shear import Shear
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.errors import UsageError
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


@pytest.mark.parametrize("channels", [3, 4])
def test_all_joints_but_the_centre_are_sheared(channels: int) -> None:
    x = torch.randn(3, channels, 5, 25, 2)
    before, op = x.clone(), CentredShear(KINECT, 0.3)
    params = op.sample(Draws(0, 0, torch.arange(3)), x.shape)
    plain = Shear(0.3)
    assert torch.equal(params["matrix"], plain.sample(Draws(0, 0, torch.arange(3)), x.shape)["matrix"])
    y, sheared = op.apply(x, params), plain.apply(x, params)
    others = [v for v in range(25) if v != KINECT.centre]
    assert torch.equal(y[:, :, :, others], sheared[:, :, :, others])
    assert torch.equal(y[:, :, :, KINECT.centre], x[:, :, :, KINECT.centre])
    assert torch.equal(x, before)
    assert not torch.equal(y, sheared)


@pytest.mark.parametrize("gradients", [False, True])
def test_it_folds_with_what_is_before_and_after(gradients: bool) -> None:
    ops: list[Any] = [Crop(), Rotate(), CentredShear(KINECT), SpatialFlip(KINECT, 1.0), Rotate(), AxisMask(1.0)]
    x = torch.randn(4, 3, 12, 25, 2, generator=torch.Generator().manual_seed(0)).requires_grad_(gradients)
    whole = Chain(ops)
    drawn = whole.sample(Draws(0, 0, torch.arange(4)), x.shape)
    assert len(whole.folded(drawn, x.shape)) == 1
    expected = x
    for op, params in zip(ops, drawn, strict=True):
        expected = op.apply(expected, params)
    torch.testing.assert_close(whole.apply(x, drawn), expected, rtol=0, atol=1e-5)


def test_it_folds_with_no_second_one_and_after_no_reordering() -> None:
    shear, x = CentredShear(KINECT), torch.randn(4, 3, 12, 25, 2)
    for first in (CentredShear(KINECT), SpatialFlip(KINECT, 1.0), AxisMask(1.0)):
        whole = Chain([first, shear])
        drawn = whole.sample(Draws(0, 0, torch.arange(4)), x.shape)
        expected = shear.apply(first.apply(x, drawn[0]), drawn[1])
        torch.testing.assert_close(whole.apply(x, drawn), expected, rtol=0, atol=1e-5)


def test_no_clips_and_impossible_amplitudes() -> None:
    op, x = CentredShear(KINECT), torch.zeros(0, 3, 5, 25, 2)
    assert op.apply(x, op.sample(Draws(0, 0, torch.arange(0)), x.shape)).shape == x.shape
    with pytest.raises(UsageError, match="-1"):
        CentredShear(KINECT, -1)


def test_it_is_the_authors(recording: Callable[[str], Any], float64: None) -> None:
    recorded = recording("augment-shear-2023")
    found = CentredShear(KINECT).apply(recorded["x"], {"matrix": recorded["param/matrix"]})
    assert float((found - recorded["y"]).abs().max()) < 1e-12
    assert float(recorded["x"][:, :, :, KINECT.centre].abs().max()) > 1
    assert not recorded.unread
