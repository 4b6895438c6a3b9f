"""The chains of the methods as data: which augmentations, in which order, with which strengths.

Of the operators that need other clips only SkeleMix is in a chain, which gives the mixed clips alone; the view
recipes of `skelpipe.loader.mixing_views` also give what was mixed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from skelpipe.plugins import Table

if TYPE_CHECKING:
    from skelpipe.augment.draws import Draws

__all__ = ["ACTCLR", "CHAINS", "CLIP", "METHODS", "Curriculum", "views_of"]

CLIP = "clip"  # the one view of training with labels

Ops = Sequence[Any]  # operators by name, or {name: value}; see `skelpipe.augment.op_lists`


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

    def kept(self, draws: "Draws", count: int) -> frozenset[int]:
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


def _both(*ops: Any) -> Mapping[str, Ops]:
    return {"paper": ops, "released": ops}


# By variant. Crop and shear have the strengths of the recipe's section `augment`, noise and blur the settings of
# the variant (divergences noise-on-absent-bodies, blur-gain).
CHAINS: Final[Table[Mapping[str, Ops]]] = Table(
    "chain",
    {
        # T of AimCLR, A of SkeleMixCLR, N of SkeAttnCLR, aug of MsMCLR: Chen et al. 2022, section IV-B and eq. 8.
        "normal": _both("crop", "shear"),
        # AimCLR's extreme augmentation T' (Guo et al. 2022, "Data Augmentations"): all eight of the paper, in the
        # order and with the strengths of its first public code. Released: divergence aimclr-temporal-flip.
        "aimclr-extreme": {
            "paper": ("normal", "spatial-flip", "rotate", "temporal-flip", {"noise": 0.01}, "blur", "axis-mask"),
            "released": ("normal", "spatial-flip", "rotate", {"noise": 0.01}, "blur", "axis-mask"),
        },
        # MsMCLR's strong augmentation: the eight of Wu et al., sec. 3.3, in our order. Released: divergence
        # msmclr-strong-augmentation.
        "msmclr-strong": {
            "paper": (
                *("normal", "rotate", {"noise": 0.01}, "blur"),
                *({"joint-mask": [5, 15]}, "axis-mask", {"joint-noise": 5}),
            ),
            "released": (
                *("normal", "spatial-flip", "rotate", {"noise": 0.01}, "blur"),
                *("axis-mask", {"joint-noise": 1}),
            ),
        },
        # All views of the released ActCLR begin with it: divergence actclr-transformations.
        "actclr-normal": {"paper": ("normal",), "released": ("crop", "centred-shear")},
        # ActCLR takes over AimCLR's (Lin et al. 2023, section 3.2).
        "actclr-actionlet": {
            "paper": ("aimclr-extreme",),
            "released": ("actclr-normal", "spatial-flip", "rotate", {"noise": 0.01}, "blur", "axis-mask"),
        },
        # ActCLR outside the actionlet: all of `actclr-actionlet`, then stronger noise: 0.05 m is the best in table
        # 7. Released: divergence actclr-transformations.
        "actclr-non-actionlet": {
            "paper": ("actclr-actionlet", "actclr-noise"),
            "released": (
                *("actclr-normal", "spatial-flip", "rotate", "actclr-noise", "blur", "axis-mask"),
                *("time-rescale", "bone-rescale"),
            ),
        },
        "actclr-noise": _both({"noise": 0.05}),
        # SkeleMixCLR's mixed clips (Chen et al. 2022, section III-B).
        "skelemix": _both("normal", "skelemix"),
    },
    lambda name, paper, released: {
        "paper": paper,
        "released": released,
    },  # checked by `op_lists`, which reads lists
)


def _views(**chains: str) -> Mapping[str, Mapping[str, str]]:
    return {"paper": chains, "released": chains}


def _known(chains: Mapping[str, str]) -> Mapping[str, str]:
    """Return the views of a plug-in's method, after a look at the names of their chains."""
    if unknown := [chain for chain in chains.values() if chain not in CHAINS]:
        raise ValueError(f"its view_chains name {unknown[0]!r}; known chains: {', '.join(CHAINS)}")
    return chains


PAIR: Final[Mapping[str, str]] = MappingProxyType({"query": "normal", "key": "normal"})
# The views that a method augments, in the order of their draws, with their chains.
METHODS: Final[Table[Mapping[str, Mapping[str, str]]]] = Table(
    "method's views",
    {
        "skeletonclr": _views(**PAIR),
        "crosclr": _views(**PAIR),
        "skelemixclr": _views(**PAIR),
        "skeattnclr": _views(**PAIR),
        "aimclr": _views(query="normal", extreme="aimclr-extreme", key="normal"),
        "msmclr": _views(query="normal", strong="msmclr-strong", key="normal"),
        "actclr": {
            "paper": {**PAIR, "act": "actclr-actionlet", "non": "actclr-noise"},
            "released": {
                **dict.fromkeys(("query", "key", "plain"), "actclr-normal"),
                **{"act": "actclr-actionlet", "non": "actclr-non-actionlet"},
            },
        },
    },
    lambda name, chains: _views(**_known(chains)),
)


def views_of(method: str, variant: str) -> Mapping[str, str]:
    """Return the views that a method augments, each with the name of its chain; of other methods query and key."""
    return METHODS[method][variant] if method in METHODS else PAIR
