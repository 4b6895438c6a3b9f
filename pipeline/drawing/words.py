"""What an augmentation drew for a clip, in words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.centred_shear import CentredShear
from skelpipe.augment.chain import Chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_mask import JointMask
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.region import BLOCK
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.shear import Shear
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.augment.skeleton_mix import KINDS, SkeletonMix
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.drawing.moving_joints import MEANING
from skelpipe.loader.view_recipes import Mats
from skelpipe.skeleton import Layout

__all__ = ["OFF", "steps", "title", "words"]

OFF = "off"
AXES = "xyz"
TITLES: Mapping[type, str] = {
    AxisMask: "axis mask",
    BoneRescale: "bone rescale",
    CentredShear: "centred shear",
    Crop: "crop",
    GaussianBlur: "Gaussian blur",
    GaussianNoise: "Gaussian noise",
    JointMask: "joint mask",
    JointNoise: "joint noise",
    Mats: "MATS",
    Rotate: "rotate",
    Shear: "shear",
    SkeleMix: "SkeleMix",
    SkeletonAdaIN: "Skeleton AdaIN",
    SkeletonMix: "Skeleton Mix",
    SpatialFlip: "spatial flip",
    TemporalFlip: "temporal flip",
    TimeRescale: "time rescale",
}


def title(op: Any) -> str:
    """Return the name of an augmentation."""
    return TITLES.get(type(op), type(op).__name__)


def words(op: Any, params: Mapping[str, Tensor] | None, shape: Sequence[int], layout: Layout) -> str:
    """Say what `op` drew for the first of clips of `shape` [N,C,T,V,M]; None: it is left out in this epoch.

    Frames are counted from 1. For an augmentation that is not known here the parameters are listed.
    """
    if isinstance(op, Mats):
        means = getattr(op.actionlet, "means", MEANING)
        return f"{op.act} inside the actionlet, {op.non} outside; actionlet: {means}"
    if params is None:
        return "left out in this epoch"
    drawn = {name: tensor[0] for name, tensor in params.items()}
    if _closed(op, drawn):
        return OFF
    match op:
        case Crop():
            return f"start {int(drawn['start'])}; {op.padding(shape[2])} gives the clip back"
        case Shear() | CentredShear():
            return _mixture(drawn["matrix"].tolist())
        case Rotate():
            return _angles(drawn["angle"].tolist())
        case SpatialFlip():
            return "left and right exchanged"
        case TemporalFlip():
            return "frames reversed"
        case AxisMask():
            return f"{', '.join(AXES[i] for i, keep in enumerate(drawn['keep'].tolist()) if not keep)} is zero"
        case GaussianNoise():
            return f"standard deviation {float(drawn['scale']):.3g}, in the units of the positions"
        case GaussianBlur():
            return f"sigma {float(drawn['sigma']):.2f} frames{'' if op.normalise else ', kernel not normalised'}"
        case JointMask():
            return f"zero in {_frames(int(drawn['first']), int(drawn['length']))}: {_joints(drawn, layout)}"
        case JointNoise():
            return f"replaced: {', '.join(layout.joints[v] for v in drawn['joints'].tolist())}"
        case TimeRescale():
            return f"{shape[2]} frames become {math.floor(float(drawn['ratio']) * shape[2]) or 1}"
        case BoneRescale():
            factor = drawn["factor"][[child for child, _ in layout.edges]]
            return f"bones {float(factor.min()):.2f} to {float(factor.max()):.2f} times as long"
        case SkeletonAdaIN():
            lengths = op.variant == "2023-12" or (op.variant == "head" and op.view != "motion")
            return f"the donor's {'bone lengths' if lengths else 'mean pose and spread over time'}"
        case SkeleMix():
            region = _region(drawn, layout)
            return f"zero: {region}" if op.fill == "zeros" else f"the donor's {region}"
        case SkeletonMix():
            return _mixed(drawn, layout)
    return "; ".join(f"{name} {tensor.tolist()}" for name, tensor in drawn.items())


def steps(op: Any, params: Any, shape: Sequence[int], layout: Layout) -> dict[str, str]:
    """Return the title and the words of an augmentation; of a chain those of each operator, numbered from 1."""
    if not isinstance(op, Chain):
        return {title(op): words(op, params, shape, layout)}
    pairs = enumerate(zip(op.ops, params, strict=True), 1)
    return {f"{n} {title(step)}": words(step, drawn, shape, layout) for n, (step, drawn) in pairs}


def _closed(op: Any, drawn: Mapping[str, Tensor]) -> bool:
    """Return whether the augmentation leaves this clip as it is, decided by its probability."""
    match op:
        case AxisMask():
            return bool(drawn["keep"].all())
        case GaussianNoise():
            return not drawn["scale"]
        case JointMask():
            return not drawn["joints"].any()
    return "on" in drawn and not drawn["on"]


def _mixture(matrix: list[list[float]]) -> str:
    rows = []
    for i, row in enumerate(matrix):
        shares = (f"{'-' if a < 0 else '+'} {abs(a):.2f} {AXES[j]}" for j, a in enumerate(row) if j != i)
        rows.append(f"{AXES[i]} {' '.join(shares)}")
    return "; ".join(rows)


def _angles(angle: list[float]) -> str:
    degrees = [math.degrees(a) for a in angle]
    main = max(range(3), key=degrees.__getitem__)
    others = ", ".join(f"{AXES[i]} {degrees[i]:.1f}" for i in range(3) if i != main)
    return f"largest about {AXES[main]}, {degrees[main]:.1f} degrees; {others}"


def _frames(first: int, length: int) -> str:
    return f"frames {first + 1} to {first + length}"


def _joints(drawn: Mapping[str, Tensor], layout: Layout) -> str:
    return ", ".join(layout.joints[v] for v, on in enumerate(drawn["joints"].tolist()) if on)


def _region(drawn: Mapping[str, Tensor], layout: Layout) -> str:
    if "joints" in drawn:
        what = _joints(drawn, layout)
    else:
        what = ", ".join(part for part, on in zip(layout.parts, drawn["parts"].tolist(), strict=True) if on)
    return f"{what} in {_frames(int(drawn['first']) * BLOCK, int(drawn['length']) * BLOCK)}"


def _mixed(drawn: Mapping[str, Tensor], layout: Layout) -> str:
    kind = KINDS[int(drawn["kind"])]
    if kind == "mixup":
        return f"Mixup: {float(drawn['weight']):.2f} of the donor, everywhere"
    region = _region(drawn, layout)
    if kind == "cutmix":
        return f"CutMix: the donor's {region}"
    return f"ResizeMix: the donor's first frames at twice the speed, as {region}"
