"""The augmentations one clip at a time in numpy, as research code does them: the reference for the batched ones.

Each function changes one clip [C,T,V,M] by the parameters of `plain_draws`, whose names are those of the batched
operator's parameters: with the same parameters both make the same clip. The code is straightforward, but not slow
on purpose: it loops only over the taps of a blur and the bones of a body, and does nothing where a gate is closed.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
from plain_draws import draw, draw_mix

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.centred_shear import CentredShear
from skelpipe.augment.chain import Chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.gaussian_blur import REACH, GaussianBlur
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
from skelpipe.loader.view_recipes import On, ViewRecipes
from skelpipe.skeleton import Layout

__all__ = ["OPERATORS", "apply", "mix", "plain_views"]

Drawn: TypeAlias = Mapping[str, Any]


def apply(op: object, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    """Return the clip [C,T,V,M] as `op`, one of the operators of the chains, changes it; `x` stays as it is."""
    return OPERATORS[type(op)](op, x, drawn)


def mix(op: SkeleMix, x: np.ndarray, donor: np.ndarray, drawn: Drawn) -> np.ndarray:
    """Return the clip with the parts and blocks of frames in `drawn` replaced by the donor's."""
    joints = [
        v for part, on in zip(op.region.layout.parts.values(), drawn["parts"], strict=True) if on for v in part
    ]
    first, last = BLOCK * drawn["first"], BLOCK * (drawn["first"] + drawn["length"])
    mixed = x.copy()
    mixed[:, first:last, joints] = donor[:, first:last, joints]
    return mixed


def plain_views(recipe: ViewRecipes, clips: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw and make the views of a recipe one clip at a time, and stack them: [N,C,T,V,M] each."""
    views: dict[str, np.ndarray] = {}
    for name, content in recipe.items():
        if isinstance(content, Chain):
            views[name] = np.stack([_augmented(content, clip, rng) for clip in clips])
        elif isinstance(content, On) and isinstance(content.op, SkeleMix):
            views[name] = _mixed(content.op, views[content.view], rng)
        else:
            raise TypeError(f"the view {name!r} has no plain counterpart")
    return views


def crop(op: Crop, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    frames = x.shape[1]
    p = op.padding(frames)
    padded = np.concatenate([x[:, :p][:, ::-1], x, x[:, frames - p :][:, ::-1]], axis=1)
    return padded[:, drawn["start"] : drawn["start"] + frames]


def mix_axes(_op: Shear | CentredShear | Rotate, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    matrix = np.asarray(drawn["matrix"], x.dtype)
    return np.dot(x.transpose(1, 2, 3, 0), matrix.T).transpose(3, 0, 1, 2)


def centred_shear(op: CentredShear, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    sheared = mix_axes(op, x, drawn)
    sheared[:, :, op.layout.centre] = x[:, :, op.layout.centre]
    return sheared


def spatial_flip(op: SpatialFlip, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    return x[:, :, list(op.layout.mirror)] if drawn["on"] else x


def temporal_flip(_op: TemporalFlip, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    return x[:, ::-1] if drawn["on"] else x


def gaussian_noise(op: GaussianNoise, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    """`field` is N(0,1) of the clip's shape; only read where `scale` is not 0."""
    if not drawn["scale"]:
        return x
    noise = np.asarray(drawn["field"] * drawn["scale"], x.dtype)
    return x + (noise if op.empty else noise * (x != 0).any((0, 1, 2)))


def gaussian_blur(op: GaussianBlur, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    if not drawn["on"]:
        return x
    kernel = np.exp(-(np.arange(-REACH, REACH + 1) ** 2) / (2 * float(drawn["sigma"]) ** 2)).astype(x.dtype)
    if op.normalise:
        kernel /= kernel.sum()
    padded = np.pad(x, [(0, 0), (REACH, REACH), (0, 0), (0, 0)])
    blurred = kernel[0] * padded[:, : x.shape[1]]
    for k, weight in enumerate(kernel[1:], 1):
        blurred += weight * padded[:, k : k + x.shape[1]]
    return blurred


def axis_mask(_op: AxisMask, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    if np.all(drawn["keep"]):
        return x
    masked = x.copy()
    masked[np.equal(drawn["keep"], 0)] = 0
    return masked


def joint_mask(_op: JointMask, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    if not np.any(drawn["joints"]):
        return x
    masked = x.copy()
    masked[:, drawn["first"] : drawn["first"] + drawn["length"], drawn["joints"]] = 0
    return masked


def joint_noise(_op: JointNoise, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    """`unit` is U[0,1) of shape [C,T,k,M]; bodies whose coordinates in a frame sum to 0 stay as they are."""
    low, high = x.min(2, keepdims=True), x.max(2, keepdims=True)
    here = x.sum((0, 2)) != 0
    noisy = x.copy()
    noise = low + np.asarray(drawn["unit"], x.dtype) * (high - low)
    noisy[:, :, drawn["joints"]] = np.where(here[:, None], noise, x[:, :, drawn["joints"]])
    return noisy


def time_rescale(_op: TimeRescale, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    if not drawn["on"]:
        return x
    frames = x.shape[1]
    length = max(int(float(drawn["ratio"]) * frames), 1)
    at = np.clip((np.arange(min(length, frames)) + 0.5) * frames / length - 0.5, 0, frames - 1)
    before = at.astype(np.int64)
    share = (at - before).astype(x.dtype)[:, None, None]
    resized = np.zeros_like(x)
    resized[:, : len(at)] = x[:, before] * (1 - share) + x[:, np.minimum(before + 1, frames - 1)] * share
    return resized


def bone_rescale(op: BoneRescale, x: np.ndarray, drawn: Drawn) -> np.ndarray:
    grown = x.copy()
    factor = np.asarray(drawn["factor"], x.dtype)
    for child, parent in _outwards(op.layout):
        grown[:, :, child] = grown[:, :, parent] + (x[:, :, child] - x[:, :, parent]) * factor[child]
    return grown


def _augmented(ops: Chain, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    for op in ops.ops:
        x = apply(op, x, draw(op, rng, x.shape))
    return x


def _mixed(op: SkeleMix, clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mix each clip with the one a shift ahead; a batch has one region and one shift, as in the released code."""
    count = len(clips)
    region = draw_mix(op, rng, clips.shape[1:])
    shift = int(rng.integers(1, max(count - 1, 2)))
    return np.stack([mix(op, clips[n], clips[(n + shift) % count], region) for n in range(count)])


def _outwards(layout: Layout) -> tuple[tuple[int, int], ...]:
    """Return the bones as (child, parent), each after the one that ends in its parent."""
    return _sorted(layout.parents)


@cache
def _sorted(parents: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    def depth(joint: int) -> int:
        return 0 if parents[joint] == joint else 1 + depth(parents[joint])

    bones = [(child, parent) for child, parent in enumerate(parents) if child != parent]
    return tuple(sorted(bones, key=lambda bone: depth(bone[0])))


OPERATORS: Final[Mapping[type, Callable[[Any, np.ndarray, Drawn], np.ndarray]]] = {
    Crop: crop,
    Shear: mix_axes,
    CentredShear: centred_shear,
    Rotate: mix_axes,
    SpatialFlip: spatial_flip,
    TemporalFlip: temporal_flip,
    GaussianNoise: gaussian_noise,
    GaussianBlur: gaussian_blur,
    AxisMask: axis_mask,
    JointMask: joint_mask,
    JointNoise: joint_noise,
    TimeRescale: time_rescale,
    BoneRescale: bone_rescale,
}
