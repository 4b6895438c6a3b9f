"""Which clips a rank reads of each global batch, and what is to be done with them.

A rank has its own share of the batch. Where clips are mixed with others of the batch, their donors are clips of
the whole batch; those of other ranks' shares are the rank's *guests*, which it reads and augments besides. So a
clip has the same donor, and the same of it, whatever the number of ranks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelpipe.augment.donor import DONOR
from skelpipe.augment.draws import Draws
from skelpipe.loader.drawn import DrawnView
from skelpipe.loader.nested import like
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Mats, ViewRecipe, with_used

__all__ = ["RankShare", "RankShares"]

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RankShare:
    """What a rank has of a global batch: `rows` of the subset, int64[n], the first `own` of them its share, the
    others guests. `places` are where these stand in the global batch, int64[n]; None where there are no guests.
    """

    rows: Rows
    own: int
    places: Rows | None = None


class RankShares:
    """Cuts global batches of a stream to what one rank has of them, with what makes its views."""

    def __init__(self, stream: Stream, recipe: Mapping[str, ViewRecipe]) -> None:
        """Raise what an augmentation says of clips of a shape that does not suit it, such as a UsageError."""
        self.stream, self.recipe = stream, recipe
        drawn = self._draw(0, range(1), [np.zeros(1, np.int64)])
        self._mixes = stream.world > 1 and bool(_donors(drawn))

    def rows(self, epoch: int, step: int) -> Rows:
        """Return the rows of this rank's part, int64[n]."""
        if self.stream.world == 1:
            return self.stream.rows(epoch, step)
        return self._drawn(epoch, range(step, step + 1))[0][0].rows

    def planned(self, epoch: int, block: range) -> tuple[list[RankShare], dict[str, DrawnView]]:
        """Return this rank's parts of these steps, and what every view is made by for all their rows."""
        parts, params = self._drawn(epoch, block)
        shape = torch.Size((sum(len(part.rows) for part in parts), *self.stream.dataset.shape))
        return parts, {name: self.recipe[name].plan(tree, shape) for name, tree in params.items()}

    def with_guests(self, plans: Mapping[str, DrawnView]) -> frozenset[str]:
        """Return the views that are mixed, or mixed from: guests' are made too, of all others own clips' alone.

        All are where a mask is carried from the clips as they were read.
        """
        mixed = {name for name, plan in plans.items() if _donors(plan.drawn)}
        carried = any(isinstance(entry, Mats) and entry.mask == "carried" for entry in self.recipe.values())
        return frozenset(self.recipe if mixed and carried else with_used(self.recipe, mixed))

    def _drawn(self, epoch: int, block: range) -> tuple[list[RankShare], dict[str, Any]]:
        if not self._mixes:
            parts = [RankShare(rows, len(rows)) for rows in (self.stream.rows(epoch, step) for step in block)]
            params = self._draw(epoch, block, [part.rows for part in parts])
            if self.stream.world == 1 or not _donors(params):
                return parts, params
            self._mixes = True  # from this epoch on
        wholes = [self.stream.whole(epoch, step) for step in block]
        params = self._draw(epoch, block, wholes)
        parts = self._parts(wholes, {name: _donors(tree) for name, tree in params.items()})
        starts = np.cumsum([0, *map(len, wholes)])[:-1]
        rows = [start + part.places for start, part in zip(starts, parts, strict=True)]
        kept = torch.from_numpy(np.concatenate(rows))
        first = torch.from_numpy(np.repeat(starts, [len(part.rows) for part in parts]))
        among = torch.zeros(sum(map(len, wholes)), dtype=torch.int64)  # where a clip of the whole stands in a part
        among[kept] = torch.from_numpy(np.concatenate([np.arange(len(part.rows)) for part in parts]))
        return parts, {name: _cut(tree, kept, lambda donor: among[first + donor]) for name, tree in params.items()}

    def _parts(self, wholes: Sequence[Rows], donors: Mapping[str, list[Tensor]]) -> list[RankShare]:
        parts, start = [], 0
        for rows in wholes:
            own = self.stream.share(len(rows))
            here = slice(start, start + len(rows))
            needed = self._needed(
                own, {name: [each[here].numpy() for each in all_] for name, all_ in donors.items()}
            )
            needed[own.start : own.stop] = False
            places = np.concatenate([np.arange(own.start, own.stop), np.flatnonzero(needed)])
            parts.append(RankShare(rows[places], len(own), places))
            start += len(rows)
        return parts

    def _needed(self, own: range, donors: Mapping[str, list[Rows]]) -> NDArray[np.bool_]:
        """Return which clips of a whole batch, bool[N], the views of own clips are made from."""
        views = {name: np.zeros(self.stream.batch_size, bool) for name in self.recipe}
        clips = np.zeros(self.stream.batch_size, bool)
        for name, entry in reversed(list(self.recipe.items())):
            needed = views[name]
            needed[own.start : own.stop] = True
            for donor in reversed(donors[name]):
                needed[donor[needed[: len(donor)]]] = True
            for used in entry.uses:
                views[used] |= needed
            clips |= needed
        return clips

    def _draw(self, epoch: int, block: range, rows: Sequence[Rows]) -> dict[str, Any]:
        """Draw every view's parameters for the rows of this block of steps."""
        index = torch.from_numpy(np.concatenate(rows))
        step = torch.from_numpy(np.repeat(block, [len(r) for r in rows]))
        shape = torch.Size((len(index), *self.stream.dataset.shape))
        return {
            name: entry.sample(Draws(self.stream.seed, epoch, index, slot, step), shape)
            for slot, (name, entry) in enumerate(self.recipe.items())
        }


def _donors(tree: Any) -> list[Tensor]:
    """Return the drawn donors in nested parameters, int64[N] each."""
    if isinstance(tree, dict):
        own = [tree[DONOR]] if DONOR in tree else []
        return own + [donor for value in tree.values() for donor in _donors(value)]
    if isinstance(tree, (list, tuple)):
        return [donor for value in tree for donor in _donors(value)]
    return []


def _cut(tree: Any, kept: Tensor, renumber: Callable[[Tensor], Tensor]) -> Any:
    """Return the `kept` rows of nested parameters, and donors renumbered."""
    if isinstance(tree, Tensor):
        return tree[kept]
    if isinstance(tree, dict):
        cut = {key: _cut(value, kept, renumber) for key, value in tree.items()}
        return cut if DONOR not in tree else {**cut, DONOR: renumber(cut[DONOR])}
    if isinstance(tree, (list, tuple)):
        return like(tree, [_cut(value, kept, renumber) for value in tree])
    return tree
