"""What is to be done with the clips of a batch, or of several: what was drawn, and what that comes to."""

from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from skelpipe.augment.chain import Chain, Steps
from skelpipe.loader.nested import map_tensors

if TYPE_CHECKING:
    from skelpipe.loader.view_recipes import Augmentation

__all__ = ["DrawnView"]


class DrawnView(NamedTuple):
    """What was drawn for an augmentation and, of a chain, what that comes to (see `Chain.folded`).

    Both have one row a sample, so that several batches' can be made together and cut apart. What was drawn for a
    chain is hardly ever needed again: it is cut when it is.
    """

    drawn: Any
    steps: Steps | None
    rows: slice = slice(None)

    @classmethod
    def of(cls, op: "Augmentation | None", params: Any, shape: torch.Size) -> "DrawnView":
        return cls(params, op.folded(params, shape) if isinstance(op, Chain) else None)

    def part(self, rows: slice) -> "DrawnView":
        """Return the plan of some of the samples."""
        return DrawnView(self.drawn, map_tensors(itemgetter(rows), self.steps), rows)

    @property
    def params(self) -> Any:
        return map_tensors(itemgetter(self.rows), self.drawn)

    def apply(self, op: "Augmentation", x: Tensor) -> Tensor:
        return op.apply(x, self.params) if self.steps is None else cast(Chain, op).run(x, self.steps)
