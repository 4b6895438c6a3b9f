"""A curriculum over augmentations: fewer and fewer of them as epochs go by (the released ActCLR, spec B3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from skelpipe.augment.draws import Draws

__all__ = ["ACTCLR", "Curriculum"]


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
