"""The clips of a dataset, block by block, with the numbers of a joint that a format takes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.progress import progress
from skelpipe.sample_ids import name_of_sample
from skelpipe.views import POSITIONS

__all__ = ["Block", "Clips", "plain_name"]

BLOCK_BYTES = 1 << 24  # of clips in memory
SCORE = "score"


class Block(NamedTuple):
    """Consecutive clips of a subset: first row, names, labels (-1: none), and the clips, float32 [n,C,T,V,M].

    The names are those of the recordings: ids, and what ids cannot hold is not escaped.
    """

    start: int
    names: list[str]
    labels: np.ndarray
    clips: np.ndarray


@dataclass(frozen=True)
class Clips:
    """What is exported of a dataset: one view, with its scores or without, and whether progress is shown."""

    dataset: Dataset
    view: str = "joint"
    scores: bool = True
    quiet: bool = True

    @cached_property
    def flat(self) -> bool:
        """Whether the poses are 2D: z is 0 throughout. Told by the mean training clip where there is one."""
        if "absent" not in self.dataset.card["anchors"]:
            return not self.dataset.anchor("joint")[POSITIONS - 1].any()
        return not any(block.clips[:, POSITIONS - 1].any() for block in self._blocks("test", "joint"))

    @property
    def scored(self) -> bool:
        """Whether scores are exported."""
        return self.scores and SCORE in self.dataset.channels

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers of a joint: x and y, z unless the poses are 2D, and the score."""
        axes = ("x", "y") if self.flat else ("x", "y", "z")
        return (*axes, SCORE) if self.scored else axes

    @property
    def three(self) -> tuple[str, ...]:
        """The numbers of a joint in formats of three: x, y, z, or x, y, score.

        UsageError for 3D poses with scores.
        """
        if len(self.numbers) > POSITIONS:
            raise UsageError(
                f"{self.dataset.path}: its joints have x, y, z and a score, and this format takes three numbers: "
                "pass --no-scores to leave the scores out, or export as npy or csv"
            )
        return self.numbers if self.scored else ("x", "y", "z")

    @property
    def labelled(self) -> bool:
        """Whether every sample has a label."""
        return all((self.dataset.stored_labels(subset) >= 0).all() for subset in ("train", "test"))

    def need_labels(self, format_name: str) -> None:
        """Raise UsageError where samples have no labels."""
        if not self.labelled:
            raise UsageError(
                f"{self.dataset.path}: has samples without a label, and {format_name} needs one for each: export"
                " as npy or csv"
            )

    def names(self, subset: str) -> list[str]:
        """Return the names of a subset's recordings, as they were before they became ids."""
        return [_name(identity) for identity in self.dataset.ids(subset)]

    def chosen(self, clips: np.ndarray, numbers: tuple[str, ...]) -> np.ndarray:
        """Return clips [n,C,T,V,M] with these numbers of a joint as channels."""
        found = [self.dataset.channels.index(name) for name in numbers]
        return clips if found == list(range(clips.shape[1])) else clips[:, found]

    def blocks(self, subset: str) -> Iterator[Block]:
        """Yield the clips of a subset in row order, a few at a time."""
        return self._blocks(subset, self.view)

    def _blocks(self, subset: str, view: str) -> Iterator[Block]:
        dataset = self.dataset
        count = dataset.count(subset)
        rows = max(1, BLOCK_BYTES // (4 * int(np.prod(dataset.shape))))
        if not count:
            return
        reader, names, labels = dataset.reader(subset, view), self.names(subset), dataset.stored_labels(subset)
        starts = range(0, count, rows)
        for start in progress(starts, f"export {subset}: blocks", len(starts), quiet=self.quiet):
            part = slice(start, min(start + rows, count))
            yield Block(start, names[part], labels[part], reader.gather(np.arange(part.start, part.stop)))


def _name(identity: str) -> str:
    name = name_of_sample(identity)
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8, which no table holds
        return identity
    return name


def plain_name(text: str) -> str:
    """Return a name of letters, digits, `-`, `_` and `.` for a file."""
    return re.sub(r"[^\w.-]+", "-", text).strip(".") or "clips"
