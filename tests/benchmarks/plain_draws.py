"""Parameters of the augmentations, drawn for one clip at a time with numpy's generator, as research code does.

Names and distributions are those of the batched operator's parameters. Noise is drawn number by number, where the
batched operators take a window of a pool.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.centred_shear import CentredShear
from skelpipe.augment.crop import Crop
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_mask import JointMask
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.region import BLOCK
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.shear import Shear
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.augment.time_rescale import TimeRescale

__all__ = ["draw", "draw_mix"]

Rng: TypeAlias = np.random.Generator
Shape: TypeAlias = tuple[int, ...]
Drawn: TypeAlias = dict[str, Any]


def draw(op: object, rng: Rng, shape: Shape) -> Drawn:
    """Return parameters for one clip of `shape` [C,T,V,M], for `plain_augmentations.apply`."""
    return DRAWS[type(op)](op, rng, shape)


def draw_mix(op: SkeleMix, rng: Rng, shape: Shape) -> Drawn:
    """Return a region for `plain_augmentations.mix`: `parts` bool[P], `first` and `length` in blocks of frames."""
    region = op.region
    parts = np.zeros(len(region.layout.parts), bool)
    parts[rng.permutation(len(parts))[: rng.integers(region.parts[0], region.parts[1] + 1)]] = True
    length = int(rng.integers(region.blocks[0], region.blocks[1] + 1))
    return {"parts": parts, "first": int(rng.integers(0, shape[1] // BLOCK - length + 1)), "length": length}


def crop(op: Crop, rng: Rng, shape: Shape) -> Drawn:
    return {"start": int(rng.integers(0, 2 * op.padding(shape[1]) + 1))}


def shear(op: Shear | CentredShear, rng: Rng, _shape: Shape) -> Drawn:
    return {"matrix": np.eye(3) + rng.uniform(-op.amplitude, op.amplitude, (3, 3)) * (1 - np.eye(3))}


def rotate(op: Rotate, rng: Rng, _shape: Shape) -> Drawn:
    angle = rng.uniform(0, op.other, 3)
    main = rng.integers(0, 3)
    angle[main] = rng.uniform(0, op.main)
    a, b, c = np.radians(angle)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), np.sin(c), 0], [-np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return {"angle": np.array([a, b, c]), "matrix": about_z @ about_y @ about_x}


def flip(op: SpatialFlip | TemporalFlip, rng: Rng, _shape: Shape) -> Drawn:
    return {"on": rng.random() < op.probability}


def gaussian_noise(op: GaussianNoise, rng: Rng, shape: Shape) -> Drawn:
    if rng.random() >= op.probability:
        return {"scale": 0.0, "field": None}
    return {"scale": op.sd, "field": rng.standard_normal(shape, np.float32)}


def gaussian_blur(op: GaussianBlur, rng: Rng, _shape: Shape) -> Drawn:
    return {"on": rng.random() < op.probability, "sigma": rng.uniform(op.low, op.high)}


def axis_mask(op: AxisMask, rng: Rng, shape: Shape) -> Drawn:
    keep = np.ones(shape[0])
    if rng.random() < op.probability:
        keep[rng.integers(0, shape[0])] = 0
    return {"keep": keep}


def joint_mask(op: JointMask, rng: Rng, shape: Shape) -> Drawn:
    frames, count = shape[1:3]
    length = int(rng.integers(frames // 4, frames // 2 + 1))
    joints = np.zeros(count, bool)
    if rng.random() < op.probability:
        many = rng.integers(min(op.fewest, count), min(op.most, count) + 1)
        joints[rng.permutation(count)[:many]] = True
    return {"joints": joints, "first": int(rng.integers(0, frames - length + 1)), "length": length}


def joint_noise(op: JointNoise, rng: Rng, shape: Shape) -> Drawn:
    channels, frames, count, bodies = shape
    joints = rng.permutation(count)[: op.count]
    return {"joints": joints, "unit": rng.random((channels, frames, len(joints), bodies), np.float32)}


def time_rescale(op: TimeRescale, rng: Rng, _shape: Shape) -> Drawn:
    on = rng.random() < op.probability
    return {"on": on, "ratio": rng.uniform(op.low, op.high) if on else 1.0}


def bone_rescale(op: BoneRescale, rng: Rng, shape: Shape) -> Drawn:
    return {"factor": rng.uniform(0, op.strength, shape[2])}


DRAWS: Final[Mapping[type, Callable[[Any, Rng, Shape], Drawn]]] = {
    Crop: crop,
    Shear: shear,
    CentredShear: shear,
    Rotate: rotate,
    SpatialFlip: flip,
    TemporalFlip: flip,
    GaussianNoise: gaussian_noise,
    GaussianBlur: gaussian_blur,
    AxisMask: axis_mask,
    JointMask: joint_mask,
    JointNoise: joint_noise,
    TimeRescale: time_rescale,
    BoneRescale: bone_rescale,
}
