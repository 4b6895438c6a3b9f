"""Donors that belong to other ranks: which clips a rank reads of each global batch, and what it draws for them.

Each rank has its own share of the batch. Where clips are mixed with others of the batch, a donor can be any clip
of the whole batch. A rank reads and augments the donors that belong to other ranks' shares besides its own clips.
So a clip gets the same donor, augmented in the same way, for any number of ranks.
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
from skelpipe.loader.nested import like
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import DrawnView, ViewRecipe, with_used

__all__ = ["RankShare", "RankShares"]

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RankShare:
    """The clips that a rank reads of a global batch.

    `rows` of the subset, int64[n]: the first `own` of them are the rank's share, the others are donors from other
    shares. `positions` are their positions in the global batch, int64[n]; None where there are no donors.
    """

    rows: Rows
    own: int
    positions: Rows | None = None


class RankShares:
    """This rank's shares of the batches of a stream, and the parameters drawn for them by view recipes."""

    def __init__(self, stream: Stream, recipe: Mapping[str, ViewRecipe]) -> None:
        """Raises what an augmentation raises for clips of a shape that does not suit it, such as UsageError."""
        self.stream, self.recipe = stream, recipe
        params = self._sample(0, range(1), [np.zeros(1, np.int64)])
        self._mixes = stream.world > 1 and bool(_donors(params))

    def rows(self, epoch: int, step: int) -> Rows:
        """Return the rows that this rank reads, int64[n]."""
        if self.stream.world == 1:
            return self.stream.rows(epoch, step)
        return self._shares(epoch, range(step, step + 1))[0][0].rows

    def draw(self, epoch: int, block: range) -> tuple[list[RankShare], dict[str, DrawnView]]:
        """Return this rank's shares of these steps, and what is drawn for every view of all their rows."""
        shares, params = self._shares(epoch, block)
        shape = torch.Size((sum(len(share.rows) for share in shares), *self.stream.dataset.shape))
        return shares, {name: self.recipe[name].folded(tree, shape) for name, tree in params.items()}

    def views_of_donors(self, drawn: Mapping[str, DrawnView]) -> frozenset[str]:
        """Return the views that must be made of donors too: those that are mixed, and those they are made from.

        All other views are made of the rank's own clips only.
        """
        return frozenset(with_used(self.recipe, {name for name, view in drawn.items() if _donors(view.drawn)}))

    def _shares(self, epoch: int, block: range) -> tuple[list[RankShare], dict[str, Any]]:
        """Return this rank's shares of these steps, and the parameters of every view for their rows."""
        if not self._mixes:
            own = [self.stream.occurrences(epoch, step) for step in block]
            shares = [RankShare(self.stream.rows_of(each), len(each)) for each in own]
            params = self._sample(epoch, block, own)
            if self.stream.world == 1 or not _donors(params):
                return shares, params
            self._mixes = True  # from this epoch on
        batches = [self.stream.global_occurrences(epoch, step) for step in block]
        params = self._sample(epoch, block, batches)
        shares = self._with_donors(batches, {name: _donors(tree) for name, tree in params.items()})
        starts = np.cumsum([0, *map(len, batches)])[:-1]
        positions = [start + share.positions for start, share in zip(starts, shares, strict=True)]
        kept = torch.from_numpy(np.concatenate(positions))
        first = torch.from_numpy(np.repeat(starts, [len(share.rows) for share in shares]))
        number = torch.zeros(sum(map(len, batches)), dtype=torch.int64)  # of a clip of the batch, within the share
        number[kept] = torch.from_numpy(np.concatenate([np.arange(len(share.rows)) for share in shares]))
        cut = {name: _cut(tree, kept, lambda donor: number[first + donor]) for name, tree in params.items()}
        return shares, cut

    def _with_donors(self, batches: Sequence[Rows], donors: Mapping[str, list[Tensor]]) -> list[RankShare]:
        """Return the rank's share of each global batch of occurrences, with the donors that its own clips need."""
        shares, start = [], 0
        for rows in batches:
            own = self.stream.share(len(rows))
            here = slice(start, start + len(rows))
            needed = self._needed(
                own, {name: [each[here].numpy() for each in all_] for name, all_ in donors.items()}
            )
            needed[own.start : own.stop] = False
            positions = np.concatenate([np.arange(own.start, own.stop), np.flatnonzero(needed)])
            shares.append(RankShare(self.stream.rows_of(rows[positions]), len(own), positions))
            start += len(rows)
        return shares

    def _needed(self, own: range, donors: Mapping[str, list[Rows]]) -> NDArray[np.bool_]:
        """Return which clips of a global batch, bool[N], the views of the rank's own clips are made from."""
        views = {name: np.zeros(self.stream.batch_size, bool) for name in self.recipe}
        clips = np.zeros(self.stream.batch_size, bool)
        for name, recipe in reversed(list(self.recipe.items())):
            needed = views[name]
            needed[own.start : own.stop] = True
            for donor in reversed(donors[name]):
                needed[donor[needed[: len(donor)]]] = True
            for used in recipe.uses:
                views[used] |= needed
            clips |= needed
        return clips

    def _sample(self, epoch: int, block: range, occurrences: Sequence[Rows]) -> dict[str, Any]:
        """Draw the parameters of every view for the clips of these steps, for each occurrence its own."""
        index = torch.from_numpy(np.concatenate(occurrences))
        step = torch.from_numpy(np.repeat(block, [len(each) for each in occurrences]))
        shape = torch.Size((len(index), *self.stream.dataset.shape))
        return {
            name: recipe.sample(Draws(self.stream.seed, epoch, index, slot, step), shape)
            for slot, (name, recipe) in enumerate(self.recipe.items())
        }


def _donors(tree: Any) -> list[Tensor]:
    """Return all donors in nested parameters, int64[N] each."""
    if isinstance(tree, dict):
        own = [tree[DONOR]] if DONOR in tree else []
        return own + [donor for value in tree.values() for donor in _donors(value)]
    if isinstance(tree, (list, tuple)):
        return [donor for value in tree for donor in _donors(value)]
    return []


def _cut(tree: Any, kept: Tensor, renumber: Callable[[Tensor], Tensor]) -> Any:
    """Return the rows `kept` of nested parameters, with donors renumbered."""
    if isinstance(tree, Tensor):
        return tree[kept]
    if isinstance(tree, dict):
        cut = {key: _cut(value, kept, renumber) for key, value in tree.items()}
        return cut if DONOR not in tree else {**cut, DONOR: renumber(cut[DONOR])}
    if isinstance(tree, (list, tuple)):
        return like(tree, [_cut(value, kept, renumber) for value in tree])
    return tree
