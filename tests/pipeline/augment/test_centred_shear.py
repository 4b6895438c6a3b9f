"""Centred shear: as a shear, but for the centre."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from skelpipe.augment.centred_shear import CentredShear
from skelpipe.augment.draws import Draws
from skelpipe.augment.shear import Shear
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
