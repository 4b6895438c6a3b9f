"""What was drawn, in words, for parameters set by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.centred_shear import CentredShear
from skelpipe.augment.chain import chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_mask import JointMask
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.named_chains import CHAINS
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.shear import Shear
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.augment.skeleton_mix import KINDS, SkeletonMix
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.drawing.words import title, words
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
SHAPE = (1, 3, 50, 25, 2)
ON, OFF = {"on": torch.tensor([True])}, {"on": torch.tensor([False])}
SHARES = torch.tensor([[[1, 0.25, -0.5], [0, 1, 0.125], [-0.01, 0.3, 1]]])
REGION = {"parts": torch.tensor([[False, True, False, True, False]]), "first": torch.tensor([2])}
REGION["length"] = torch.tensor([3])


def joints(*names: str) -> Tensor:
    return torch.tensor([[name in names for name in KINECT.joints]])


def mix(kind: str) -> dict[str, Tensor]:
    return {"kind": torch.tensor([KINDS.index(kind)]), "weight": torch.tensor([0.37]), **REGION}


@pytest.mark.parametrize(
    ("op", "params", "expected"),
    [
        (Crop(), {"start": torch.tensor([5])}, "start 5; 8 gives the clip back"),
        (
            CentredShear(KINECT),
            {"matrix": SHARES},
            "x + 0.25 y - 0.50 z; y + 0.00 x + 0.12 z; z - 0.01 x + 0.30 y",
        ),
        (Shear(), {"matrix": SHARES}, "x + 0.25 y - 0.50 z; y + 0.00 x + 0.12 z; z - 0.01 x + 0.30 y"),
        (
            Rotate(),
            {"angle": torch.tensor([[math.radians(d) for d in (0.5, 23.4, 0.9)]])},
            "largest about y, 23.4 degrees; x 0.5, z 0.9",
        ),
        (SpatialFlip(KINECT), ON, "left and right exchanged"),
        (SpatialFlip(KINECT), OFF, "off"),
        (TemporalFlip(), ON, "frames reversed"),
        (TemporalFlip(), OFF, "off"),
        (AxisMask(), {"keep": torch.tensor([[1.0, 0, 1]])}, "y is zero"),
        (AxisMask(), {"keep": torch.ones(1, 3)}, "off"),
        (
            GaussianNoise(),
            {"scale": torch.tensor([0.05])},
            "standard deviation 0.05, in the units of the positions",
        ),
        (GaussianNoise(), {"scale": torch.tensor([0.0])}, "off"),
        (GaussianBlur(), {**ON, "sigma": torch.tensor([1.234])}, "sigma 1.23 frames"),
        (
            GaussianBlur(normalise=False),
            {**ON, "sigma": torch.tensor([1.0])},
            "sigma 1.00 frames, kernel not normalised",
        ),
        (GaussianBlur(), {**OFF, "sigma": torch.tensor([1.0])}, "off"),
        (
            JointMask(),
            {"joints": joints("head", "neck"), "first": torch.tensor([0]), "length": torch.tensor([12])},
            "zero in frames 1 to 12: neck, head",
        ),
        (
            JointMask(),
            {"joints": joints(), "first": torch.tensor([0]), "length": torch.tensor([12])},
            "off",
        ),
        (JointNoise(), {"joints": torch.tensor([[3, 0]])}, "replaced: head, spine base"),
        (TimeRescale(), {**ON, "ratio": torch.tensor([0.75])}, "50 frames become 37"),
        (TimeRescale(), {**OFF, "ratio": torch.tensor([1.0])}, "off"),
        (
            BoneRescale(KINECT),
            {"factor": torch.linspace(0.1, 0.4, 25)[None].index_fill(1, torch.tensor(20), 9)},
            "bones 0.10 to 0.40 times as long",  # the 9 belongs to the centre, which has no bone
        ),
        (SkeletonAdaIN(KINECT), {}, "the donor's mean pose and spread over time"),
        (SkeletonAdaIN(KINECT, "bone", "head"), {}, "the donor's bone lengths"),
        (SkeletonAdaIN(KINECT, "motion", "2023-12"), {}, "the donor's bone lengths"),
        (SkeleMix(KINECT), REGION, "the donor's left arm, left leg in frames 9 to 20"),
        (SkeleMix(KINECT, fill="zeros"), REGION, "zero: left arm, left leg in frames 9 to 20"),
        (
            SkeleMix(KINECT, cropping="random"),
            {**REGION, "joints": joints("head", "neck")},
            "the donor's neck, head in frames 9 to 20",
        ),
        (SkeletonMix(KINECT), mix("mixup"), "Mixup: 0.37 of the donor, everywhere"),
        (SkeletonMix(KINECT), mix("cutmix"), "CutMix: the donor's left arm, left leg in frames 9 to 20"),
        (
            SkeletonMix(KINECT),
            mix("resizemix"),
            "ResizeMix: the donor's first frames at twice the speed, as left arm, left leg in frames 9 to 20",
        ),
        (Crop(), None, "left out in this epoch"),
        (object(), {"speed": torch.tensor([2.5])}, "speed 2.5"),
    ],
)
def test_words_say_what_was_drawn(op: Any, params: dict[str, Tensor] | None, expected: str) -> None:
    assert words(op, params, SHAPE, KINECT) == expected


def test_every_operator_of_a_chain_has_a_name() -> None:
    for name in CHAINS:
        for variant in ("paper", "released"):
            for op in chain(name, layout=KINECT, variant=variant).ops:
                assert title(op) == "SkeleMix" or title(op) != type(op).__name__  # not the name of the class
