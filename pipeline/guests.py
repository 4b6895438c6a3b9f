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
from skelpipe.entries import Entry, Mats, Plan
from skelpipe.nested import like
from skelpipe.stream import Stream

__all__ = ["Part", "Parts"]

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """What a rank has of a global batch: `rows` of the split, int64[n], the first `own` of them its share, the
    others guests. `places` are where these stand in the global batch, int64[n]; None where there are no guests.
    """

    rows: Rows
    own: int
    places: Rows | None = None


class Parts:
    """Cuts global batches of a stream to what one rank has of them, with what makes its views.

    `whole` names the views that are mixed, or mixed from: they are made of guests too, all others of own clips
    alone (but all are where a mask is carried from the clips as they were read).
    """

    def __init__(self, stream: Stream, recipe: Mapping[str, Entry]) -> None:
        """Raise what an augmentation says of clips of a shape that does not suit it, such as a UsageError."""
        self.stream, self.recipe = stream, recipe
        drawn = self._draw(0, range(1), [np.zeros(1, np.int64)], recipe)
        donors = {name: len(_donors(params)) for name, params in drawn.items()}
        rounds: dict[str, int] = {}
        for name, entry in recipe.items():
            rounds[name] = donors[name] + max((rounds[used] for used in entry.uses), default=0)
        self._rounds = max(rounds.values()) if stream.world > 1 and recipe else 0
        self._mixing = {name: entry for name, entry in recipe.items() if donors[name]} if self._rounds else {}
        carried = any(isinstance(entry, Mats) and entry.mask == "carried" for entry in recipe.values())
        self.whole = frozenset(recipe if self._mixing and carried else _with_used(self._mixing, recipe))

    @property
    def most(self) -> int:
        """The most rows that a part has."""
        return self.stream.batch_size if self._rounds else -(-self.stream.batch_size // self.stream.world)

    def rows(self, epoch: int, step: int) -> Rows:
        """Return the rows of this rank's part, int64[n]."""
        if not self._rounds:
            return self.stream.rows(epoch, step)
        wholes = [self.stream.whole(epoch, step)]
        return self._parts(wholes, _donors(self._draw(epoch, range(step, step + 1), wholes, self._mixing)))[0].rows

    def planned(self, epoch: int, block: range) -> tuple[list[Part], dict[str, Plan]]:
        """Return this rank's parts of these steps, and what every view is made by for all their rows."""
        if not self._rounds:
            parts = [Part(rows, len(rows)) for rows in (self.stream.rows(epoch, step) for step in block)]
            params = self._draw(epoch, block, [part.rows for part in parts], self.recipe)
            return parts, self._plans(params, parts)
        wholes = [self.stream.whole(epoch, step) for step in block]
        params = self._draw(epoch, block, wholes, self.recipe)
        parts = self._parts(wholes, _donors(params))
        starts = np.cumsum([0, *map(len, wholes)])[:-1]
        rows = [start + part.places for start, part in zip(starts, parts, strict=True)]
        kept = torch.from_numpy(np.concatenate(rows))
        first = torch.from_numpy(np.repeat(starts, [len(part.rows) for part in parts]))
        among = torch.zeros(sum(map(len, wholes)), dtype=torch.int64)  # where a clip of the whole stands in a part
        among[kept] = torch.from_numpy(np.concatenate([np.arange(len(part.rows)) for part in parts]))
        cut = {name: _cut(tree, kept, lambda donor: among[first + donor]) for name, tree in params.items()}
        return parts, self._plans(cut, parts)

    def _plans(self, params: Mapping[str, Any], parts: Sequence[Part]) -> dict[str, Plan]:
        shape = torch.Size((sum(len(part.rows) for part in parts), *self.stream.dataset.shape))
        return {name: self.recipe[name].plan(tree, shape) for name, tree in params.items()}

    def _parts(self, wholes: Sequence[Rows], donors: Sequence[Tensor]) -> list[Part]:
        """Return of each whole batch the own rows, and those that their donors, and the donors' donors, are."""
        parts, start = [], 0
        for rows in wholes:
            share, size = self.stream.share(len(rows)), len(rows)
            own = np.arange(share.start, share.stop)
            of = [donor[start : start + size].numpy() for donor in donors]
            needed = np.zeros(size, bool)
            needed[own] = True
            for _ in range(self._rounds):
                for donor in [donor[needed] for donor in of]:
                    needed[donor] = True
            needed[own] = False
            places = np.concatenate([own, np.flatnonzero(needed)])
            parts.append(Part(rows[places], len(own), places))
            start += size
        return parts

    def _draw(self, epoch: int, block: range, rows: Sequence[Rows], recipe: Mapping[str, Entry]) -> dict[str, Any]:
        """Draw the parameters of these views for the rows of this block of steps."""
        index = torch.from_numpy(np.concatenate(rows))
        step = torch.from_numpy(np.repeat(block, [len(r) for r in rows]))
        shape = torch.Size((len(index), *self.stream.dataset.shape))
        return {
            name: entry.sample(Draws(self.stream.seed, epoch, index, slot, step), shape)
            for slot, (name, entry) in enumerate(self.recipe.items())
            if name in recipe
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


def _with_used(names: Mapping[str, Entry], recipe: Mapping[str, Entry]) -> set[str]:
    """Return these views and all that they are made from."""
    found, queue = set(names), list(names)
    while queue:
        used = [name for name in recipe[queue.pop()].uses if name not in found]
        found.update(used)
        queue += used
    return found
