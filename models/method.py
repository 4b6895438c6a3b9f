"""What a self-supervised method is to the training loop: its views, its step, what it does around a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from skelpipe.entries import Recipe as Views
from skelpipe.models.step import Step
from skelpipe.models.step import Views as Batch

__all__ = ["Method", "Progress", "Setting"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands before a step: `epoch` of `epochs` and `step` of `steps`, both counted from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int


@dataclass(frozen=True)
class Setting:
    """One value of a method's section in a recipe: its kind, its range (both ends allowed) or its choices."""

    kind: str  # "int", "float", "bool", "str" or "ints"
    low: float = -float("inf")
    high: float = float("inf")
    choices: tuple[str, ...] = ()


class Method(nn.Module):
    """A method. Subclasses say which `settings` their section of a recipe has, and are built by `models.build`.

    A step is: `advance(progress)`, `forward(batch)`, backward, optimiser, `finish()`. What depends on time
    (stages, momentum) is a pure function of `progress`, so that a resumed run goes on exactly; what must
    survive a restart is a parameter or a buffer.
    """

    name: ClassVar[str]
    settings: ClassVar[Mapping[str, Setting]] = {}

    def views(self) -> Views:
        """Return how the views of a batch are made, by name: what `skelpipe.loader.Loader` takes."""
        raise TypeError(f"{type(self).__name__} does not say what its views are")

    def advance(self, progress: Progress) -> None:
        """Prepare for the step at `progress`. Nothing changes by default."""

    def forward(self, batch: Batch) -> Step:
        """Return the loss of a batch; key networks and queues move on."""
        raise TypeError(f"{type(self).__name__} has no step")

    def finish(self) -> None:
        """Follow up a step of the optimiser. Nothing is left to do by default."""

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        """Return the query encoder (clips to h [N,D]) and head (h to z) that evaluation uses for a view."""
        raise TypeError(f"{type(self).__name__} has no networks to judge")
