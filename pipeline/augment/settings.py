"""The settings of the operators: their parameters, defaults and what is refused; nothing here imports torch.

Each operator inherits its settings, so that lists in recipes are checked before torch is imported. What they mean
is said in the operator's own file.
"""

from dataclasses import dataclass
from typing import Final

from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout

__all__ = [
    "AxisMaskSettings",
    "BoneRescaleSettings",
    "CropSettings",
    "GaussianBlurSettings",
    "GaussianNoiseSettings",
    "JointMaskSettings",
    "JointNoiseSettings",
    "NumberMaskSettings",
    "OfLayout",
    "RotateSettings",
    "ShearSettings",
    "SkeleMixSettings",
    "SpatialFlipSettings",
    "TemporalFlipSettings",
    "TimeRescaleSettings",
    "check_per",
]


@dataclass(frozen=True)
class OfLayout:
    """What an operator inherits, last, that treats joints differently: its first parameter is the layout."""

    layout: Layout


@dataclass(frozen=True)
class CropSettings:
    """See `skelpipe.augment.crop`."""

    ratio: int = 6

    def __post_init__(self) -> None:
        if self.ratio < 0:
            raise UsageError(f"the crop ratio is {self.ratio}; it must be 0 (no crop) or more")


@dataclass(frozen=True)
class ShearSettings:
    """See `skelpipe.augment.shear` and `centred_shear`."""

    amplitude: float = 0.5

    def __post_init__(self) -> None:
        if self.amplitude < 0:
            raise UsageError(f"the shear amplitude is {self.amplitude}; it must be 0 (no shear) or more")


@dataclass(frozen=True)
class SpatialFlipSettings:
    """See `skelpipe.augment.spatial_flip`."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.probability)


@dataclass(frozen=True)
class RotateSettings:
    """See `skelpipe.augment.rotate`."""

    main: float = 30.0
    other: float = 1.0


@dataclass(frozen=True)
class TemporalFlipSettings:
    """See `skelpipe.augment.temporal_flip`."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.probability)


@dataclass(frozen=True)
class GaussianNoiseSettings:
    """See `skelpipe.augment.gaussian_noise`."""

    sd: float = 0.01
    probability: float = 0.5
    empty: bool = False

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if self.sd < 0:
            raise UsageError(f"the standard deviation of noise is {self.sd}; it must be 0 (no noise) or more")


@dataclass(frozen=True)
class GaussianBlurSettings:
    """See `skelpipe.augment.gaussian_blur`."""

    low: float = 0.1
    high: float = 2.0
    probability: float = 0.5
    normalise: bool = True

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if not 0 < self.low <= self.high:
            raise UsageError(f"a blur cannot have a sigma between {self.low} and {self.high}")


@dataclass(frozen=True)
class AxisMaskSettings:
    """See `skelpipe.augment.axis_mask`."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.probability)


@dataclass(frozen=True)
class JointMaskSettings:
    """See `skelpipe.augment.joint_mask`."""

    fewest: int = 5
    most: int = 15
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if not 0 <= self.fewest <= self.most:
            raise UsageError(f"a joint mask cannot cover {self.fewest} to {self.most} joints")


@dataclass(frozen=True)
class NumberMaskSettings:
    """See `skelpipe.augment.number_mask`."""

    share: float = 0.5
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if not 0 <= self.share <= 1:
            raise UsageError(f"the share of numbers to mask is {self.share}; it must be between 0 and 1")


@dataclass(frozen=True)
class JointNoiseSettings:
    """See `skelpipe.augment.joint_noise`."""

    count: int = 5

    def __post_init__(self) -> None:
        if self.count < 0:
            raise UsageError(f"{self.count} joints cannot be replaced by noise")


@dataclass(frozen=True)
class TimeRescaleSettings:
    """See `skelpipe.augment.time_rescale`."""

    low: float = 0.5
    high: float = 1.5
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if not 0 < self.low <= self.high:
            raise UsageError(f"time cannot be rescaled by {self.low} to {self.high}")


@dataclass(frozen=True)
class BoneRescaleSettings:
    """See `skelpipe.augment.bone_rescale`."""

    strength: float = 0.5


CROPPINGS: Final = ("topology", "random")
FILLS: Final = ("mix", "zeros")


@dataclass(frozen=True)
class SkeleMixSettings:
    """See `skelpipe.augment.skelemix`."""

    parts: tuple[int, int] = (2, 3)
    blocks: tuple[int, int] = (7, 11)
    per: str = "batch"
    cropping: str = "topology"
    random_joints: tuple[int, int] = (10, 15)
    fill: str = "mix"

    def __post_init__(self) -> None:
        if self.cropping not in CROPPINGS:
            raise UsageError(f"SkeleMix's cropping is {' or '.join(CROPPINGS)}, not {self.cropping!r}")
        if self.fill not in FILLS:
            raise UsageError(f"SkeleMix's fill is {' or '.join(FILLS)}, not {self.fill!r}")
        if self.cropping == "topology" and tuple(self.random_joints) != SkeleMixSettings.random_joints:
            raise UsageError("SkeleMix's random_joints are those of cropping random, and the cropping is topology")
        check_per(self.per)


def check_per(per: str) -> None:
    """Raise UsageError where a region is drawn neither per batch nor per sample."""
    if per not in ("batch", "sample"):
        raise UsageError(f"a region is drawn per 'batch' or per 'sample', not {per!r}")


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise UsageError(f"the probability is {probability}; it must be between 0 and 1")
