"""Which augmentations leave bodies that are absent, zeros throughout, as they are."""

from typing import Any

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.centred_shear import CentredShear
from skelpipe.augment.chain import Chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_mask import JointMask
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.shear import Shear
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.augment.temporal_flip import TemporalFlip

__all__ = ["keeps_absent"]

KEEPING = (AxisMask, CentredShear, Crop, GaussianBlur, JointMask, Rotate, Shear, SpatialFlip, TemporalFlip)


def keeps_absent(augmentation: Any) -> bool:
    """Return whether bodies that are absent before an augmentation are surely absent after it."""
    if augmentation is None:
        return True
    if isinstance(augmentation, Chain):
        return all(map(keeps_absent, augmentation.ops))
    if type(augmentation) is GaussianNoise:
        return not augmentation.empty
    return type(augmentation) in KEEPING
