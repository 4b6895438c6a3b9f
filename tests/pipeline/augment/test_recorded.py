"""Augmentations against recorded clips of the authors' code, in float64, with the recorded parameters."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe.augment import gaussian_noise, joint_noise
from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.crop import Crop
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.shear import Shear
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
OPERATORS: dict[str, Any] = {
    "axis-mask": AxisMask(),
    "blur": GaussianBlur(normalise=False),
    "bone-rescale": BoneRescale(KINECT),
    "crop": Crop(6),
    "cutmix": SkeletonMix(KINECT),
    "mixup": SkeletonMix(KINECT),
    "resizemix": SkeletonMix(KINECT),
    "rotation": Rotate(),
    "shear": Shear(),
    "skelemix": SkeleMix(KINECT),
    "spatial-flip": SpatialFlip(KINECT),
    "temporal-flip": TemporalFlip(),
    "time-rescale": TimeRescale(),
}
TOLERANCE = 1e-12


def apart(found: Tensor, wanted: Tensor) -> float:
    assert found.dtype == wanted.dtype == torch.float64
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max())


@pytest.mark.parametrize("name", OPERATORS)
def test_clips_are_the_authors(name: str, recording: Callable[[str], Any], float64: None) -> None:
    recorded = recording(f"augment-{name}")
    clips, aside = recorded["x"], recorded.options["aside"]
    params = {key: value for key, value in recorded.group("param").items() if key not in aside}
    assert apart(OPERATORS[name].apply(clips.clone(), params), recorded["y"]) < TOLERANCE
    assert apart(clips, recorded["y"]) > 0.5  # so that an operator that does nothing would be noticed
    if name == "skelemix":
        mask = OPERATORS[name].mix(clips, params).mask
        assert torch.equal(mask, recorded["param/mask"].expand_as(mask))
    assert not recorded.unread


class Given:
    """Draws that return what is given."""

    def __init__(self, unit: Tensor) -> None:
        self.unit = unit

    def uniform(self, count: int) -> Tensor:
        assert count == self.unit.shape[1]
        return self.unit


def test_rotations_are_the_authors(recording: Callable[[str], Any], float64: None) -> None:
    recorded = recording("augment-rotation")
    angles = recorded["param/angle"]
    main = angles.argmax(1)
    limits = torch.full_like(angles, math.radians(1)).scatter_(1, main[:, None], math.radians(30))
    drawn = Rotate().sample(Given(torch.cat([(main[:, None] + 0.5) / 3, angles / limits], 1)), recorded["x"].shape)
    assert apart(drawn["matrix"], recorded["param/matrix"]) < TOLERANCE


def test_noise_is_the_authors_on_absent_bodies_too(
    recording: Callable[[str], Any], float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = recording("augment-noise")
    clips, field = recorded["x"], recorded["param/field"]
    monkeypatch.setattr(gaussian_noise, "window", lambda kind, start, length: (field / 0.01).view(-1, length))
    n = len(clips)
    params = {"scale": torch.full((n,), 0.01), "start": torch.zeros(n, dtype=torch.long)}
    assert apart(GaussianNoise(0.01, empty=True).apply(clips, params), recorded["y"]) < TOLERANCE
    there = clips.abs().sum((1, 2, 3), keepdim=True) != 0
    assert not there.all()
    assert apart(GaussianNoise(0.01).apply(clips, params), torch.where(there, recorded["y"], clips)) < TOLERANCE
    assert not recorded.unread


def test_joint_noise_is_the_authors(
    recording: Callable[[str], Any], float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What joints became lies in the box of their body, in the frames where it is there; with it, clips agree."""
    recorded = recording("augment-joint-noise")
    clips, joints = recorded["x"], recorded["param/joints"]
    low, high = clips.amin(3), clips.amax(3)  # [N,3,T,M]
    there = (clips.sum((1, 3)) != 0)[:, None]
    unit = torch.where(there, (recorded["param/values"] - low) / (high - low), 0.5)
    assert bool(((unit >= 0) & (unit <= 1)).all())
    assert not there.all()
    monkeypatch.setattr(joint_noise, "window", lambda kind, start, length: unit.reshape(-1, length))
    params = {"joints": joints, "start": torch.zeros(len(clips), dtype=torch.long)}
    assert apart(JointNoise(1).apply(clips, params), recorded["y"]) < TOLERANCE
    assert not recorded.unread
