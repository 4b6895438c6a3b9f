"""The chains of the methods as data: which augmentations, in which order, with which strengths (spec B1 to B4).

Of the batch operators, which need the other clips, only SkeleMix stands in a chain, for who wants no more than the
mixed clips; recipes (`skelpipe.loader.mixing_views`) also hand out what was mixed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.bone_rescale import BoneRescale
from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.fold import Op
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_mask import JointMask
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.shear import Shear
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.augment.temporal_flip import TemporalFlip
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout

__all__ = ["ACTCLR", "CHAINS", "Curriculum", "Strength"]


@dataclass(frozen=True, slots=True)
class Strength:
    """What a chain is built with. `released`: as the code does it, not as the paper says."""

    shear: float = 0.5
    crop: int = 6
    released: bool = False

    def normal(self) -> list[Op]:
        """Crop, then shear: spec B1."""
        return [Crop(self.crop), Shear(self.shear)]

    def noise(self, sd: float) -> Op:
        """Gaussian noise; the released code adds it to absent bodies too."""
        return GaussianNoise(sd, empty=self.released)

    def blur(self) -> Op:
        """Gaussian blur; the released kernel is not normalised."""
        return GaussianBlur(normalise=not self.released)


def normal(_layout: Layout | None, strength: Strength) -> list[Op]:
    """All methods' usual augmentation."""
    return strength.normal()


def extreme(layout: Layout | None, strength: Strength) -> list[Op]:
    """AimCLR's extreme augmentation: eight, in the order of its first public code, of which HEAD leaves out the
    temporal flip. ActCLR takes it over."""
    flips: list[Op] = [] if strength.released else [TemporalFlip()]
    front = [*strength.normal(), SpatialFlip(_needed(layout)), Rotate(), *flips]
    return [*front, strength.noise(0.01), strength.blur(), AxisMask()]


def non_actionlet(layout: Layout | None, strength: Strength) -> list[Op]:
    """ActCLR outside the actionlet. Paper: all of `actclr-actionlet`, then stronger noise (sd 0.05, its best).
    Released: noise of sd 0.05 in its stead, then time and bones are rescaled."""
    if not strength.released:
        return [*extreme(layout, strength), strength.noise(0.05)]
    layout = _needed(layout)
    front = [*strength.normal(), SpatialFlip(layout), Rotate(), strength.noise(0.05), strength.blur(), AxisMask()]
    return [*front, TimeRescale(), BoneRescale(layout)]


def msmclr(layout: Layout | None, strength: Strength) -> list[Op]:
    """MsMCLR's strong augmentation. Paper (in our order): joint mask, noise on 5 joints. Released: a spatial
    flip instead of the joint mask, noise on 1 joint."""
    noise, blur = strength.noise(0.01), strength.blur()
    if strength.released:
        front = [*strength.normal(), SpatialFlip(_needed(layout)), Rotate()]
        return [*front, noise, blur, AxisMask(), JointNoise(1)]
    return [*strength.normal(), Rotate(), noise, blur, JointMask(), AxisMask(), JointNoise(5)]


def skelemix(layout: Layout | None, strength: Strength) -> list[Op]:
    """SkeleMixCLR's mixed clips: normally augmented, then mixed with a donor's (spec B5)."""
    return [*strength.normal(), SkeleMix(_needed(layout))]


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Which ops of a chain an epoch keeps: the first `always`, and some of the rest, the extras.

    `stages` are (last epoch, number of extras), epochs counted from 1; None keeps all extras. Which ones is
    drawn anew for each epoch, the same for all samples. After the last stage nothing is kept, not even the
    first ops.
    """

    stages: tuple[tuple[int, int | None], ...]
    always: int = 2

    def kept(self, draws: Draws, count: int) -> frozenset[int]:
        """Return the positions of the ops that the draws' epoch (counted from 0) keeps, of `count`."""
        extras = [extras for last, extras in self.stages if draws.epoch < last]
        if not extras:
            return frozenset()
        order = draws.of_epoch().uniform(count - self.always)[0].argsort(stable=True).tolist()
        return frozenset(range(self.always)) | {self.always + i for i in order[: extras[0]]}


ACTCLR: Final[Mapping[str, Curriculum]] = MappingProxyType(
    {
        "actclr-actionlet": Curriculum(((100, None), (200, 3), (300, 1))),
        "actclr-non-actionlet": Curriculum(((100, None), (200, 5), (300, 3))),
    }
)


CHAINS: Final[Mapping[str, Callable[[Layout | None, Strength], list[Op]]]] = MappingProxyType(
    {
        "normal": normal,
        "aimclr-extreme": extreme,
        "msmclr-strong": msmclr,
        "actclr-actionlet": extreme,
        "actclr-non-actionlet": non_actionlet,
        "skelemix": skelemix,
    }
)


def _needed(layout: Layout | None) -> Layout:
    if layout is None:
        raise UsageError("this augmentation tells left from right: it needs the layout of the skeleton")
    return layout
