"""The chains of the methods as data: which augmentations, in which order, with which strengths.

Of the operators that need other clips only SkeleMix is in a chain, which gives the mixed clips alone; the view
recipes of `skelpipe.loader.mixing_views` also give what was mixed.
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
    """What a chain is built with: `shear` and `crop` of the normal part, and whether the variant is `released`."""

    shear: float = 0.5
    crop: int = 6
    released: bool = False

    def normal(self) -> list[Op]:
        """Crop, then shear (Chen et al. 2022, section IV-B and eq. 8)."""
        return [Crop(self.crop), Shear(self.shear)]

    def noise(self, sd: float) -> Op:
        """Gaussian noise; divergence `noise-on-absent-bodies`."""
        return GaussianNoise(sd, empty=self.released)

    def blur(self) -> Op:
        """Gaussian blur; divergence `blur-gain`."""
        return GaussianBlur(normalise=not self.released)


def normal(_layout: Layout | None, strength: Strength) -> list[Op]:
    """The usual augmentation of all methods: T of AimCLR, A of SkeleMixCLR, N of SkeAttnCLR, aug of MsMCLR."""
    return strength.normal()


def extreme(layout: Layout | None, strength: Strength) -> list[Op]:
    """AimCLR's extreme augmentation T' (Guo et al. 2022, "Data Augmentations"), which ActCLR takes over.

    All eight of the paper, in the order and with the strengths of its first public code. Released: without the
    temporal flip (divergence `aimclr-temporal-flip`).
    """
    flips: list[Op] = [] if strength.released else [TemporalFlip()]
    front = [*strength.normal(), SpatialFlip(_needed(layout)), Rotate(), *flips]
    return [*front, strength.noise(0.01), strength.blur(), AxisMask()]


def non_actionlet(layout: Layout | None, strength: Strength) -> list[Op]:
    """ActCLR outside the actionlet (Lin et al. 2023, section 3.2).

    All of `actclr-actionlet`, then stronger noise: 0.05 m is the best in table 7. Released: no temporal flip,
    noise of 0.05 m instead of 0.01 m, then time and bones are rescaled (divergence `actclr-transformations`).
    """
    if not strength.released:
        return [*extreme(layout, strength), strength.noise(0.05)]
    layout = _needed(layout)
    front = [*strength.normal(), SpatialFlip(layout), Rotate(), strength.noise(0.05), strength.blur(), AxisMask()]
    return [*front, TimeRescale(), BoneRescale(layout)]


def msmclr(layout: Layout | None, strength: Strength) -> list[Op]:
    """MsMCLR's strong augmentation: the eight of Wu et al., sec. 3.3, in our order.

    Released: a spatial flip and no joint mask, noise on 1 joint and not 5 (divergence
    `msmclr-strong-augmentation`).
    """
    noise, blur = strength.noise(0.01), strength.blur()
    if strength.released:
        front = [*strength.normal(), SpatialFlip(_needed(layout)), Rotate()]
        return [*front, noise, blur, AxisMask(), JointNoise(1)]
    return [*strength.normal(), Rotate(), noise, blur, JointMask(), AxisMask(), JointNoise(5)]


def skelemix(layout: Layout | None, strength: Strength) -> list[Op]:
    """SkeleMixCLR's mixed clips: the normal augmentation, then SkeleMix (Chen et al. 2022, section III-B)."""
    return [*strength.normal(), SkeleMix(_needed(layout))]


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Which ops of a chain an epoch keeps: the first `always`, and a number of the others, the extras.

    `stages` are (last epoch, number of extras), epochs counted from 1; None keeps all extras. The extras are drawn
    again for each epoch, the same for all samples. After the last stage no op is kept, not even the first ones.
    Epoch `begins` of the run, counted from 0, is the first of the curriculum.
    Only the released ActCLR has a curriculum: divergence `actclr-transformations`.
    """

    stages: tuple[tuple[int, int | None], ...]
    always: int = 2
    begins: int = 0

    def kept(self, draws: Draws, count: int) -> frozenset[int]:
        """Return the positions of the ops that the draws' epoch (counted from 0) keeps, of `count`."""
        extras = [extras for last, extras in self.stages if draws.epoch - self.begins < last]
        if not extras:
            return frozenset()
        order = draws.of_epoch().uniform(count - self.always)[0].argsort(stable=True).tolist()
        return frozenset(range(self.always)) | {self.always + i for i in order[: extras[0]]}


ACTCLR: Final[Mapping[str, Curriculum]] = MappingProxyType(
    {
        "actclr-normal": Curriculum(((300, None),)),
        "actclr-actionlet": Curriculum(((100, None), (200, 3), (300, 1))),
        "actclr-non-actionlet": Curriculum(((100, None), (200, 5), (300, 3))),
    }
)


CHAINS: Final[Mapping[str, Callable[[Layout | None, Strength], list[Op]]]] = MappingProxyType(
    {
        "normal": normal,
        "aimclr-extreme": extreme,
        "msmclr-strong": msmclr,
        "actclr-normal": normal,
        "actclr-actionlet": extreme,
        "actclr-non-actionlet": non_actionlet,
        "skelemix": skelemix,
    }
)


def _needed(layout: Layout | None) -> Layout:
    if layout is None:
        raise UsageError(
            "this augmentation treats left and right joints differently: it needs the layout of the skeleton"
        )
    return layout
