"""What a self-supervised method is to the training loop: its views, its step, what it does around a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import nn

from skelpipe.loader.view_recipes import ViewRecipes as Views
from skelpipe.models.parts import Parts
from skelpipe.models.settings import Setting
from skelpipe.models.step import Step
from skelpipe.models.step import Views as Batch

__all__ = ["Batch", "Method", "Parts", "Progress", "Setting", "Step", "Views"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands before a step: `epoch` of `epochs` and `step` of `steps`, both counted from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int


class Method(nn.Module):
    """A method. Subclasses say which `settings` their section of a recipe has, and are built by `models.build`.

    A step is: `advance(progress)`, `forward(batch)`, backward, optimiser, `finish()`. What depends on time
    (stages, momentum) is a pure function of `progress`, so that a resumed run goes on exactly; what must
    survive a restart is a parameter or a buffer. With gradient accumulation a step of the optimiser has
    several `forward` and backward between `advance` and `finish`, and `progress` counts the optimiser's steps.

    Several processes may share a batch, each with some rows of it. Losses and logs are means over rows, so that
    the loop can weigh and add them; `MoCo.enqueue` takes a process's own keys and enters all; what `advance` draws
    from torch's generator before an epoch's first step is the same everywhere, what later steps draw is not.
    """

    name: ClassVar[str]
    settings: ClassVar[Mapping[str, Setting]] = {}
    # What those settings were before they could be set, which older recipes and the runs' metadata lack.
    earlier: ClassVar[Mapping[str, Any]] = {}
    # Whether steps depend on how many epochs a run has, not only on those done: such a run cannot be lengthened.
    spans_run: ClassVar[bool] = False

    @classmethod
    def build(cls, parts: Parts, settings: Mapping[str, Any]) -> Self:
        """Return a new method made of `parts`; `settings` is its section of the recipe, checked and complete."""
        raise TypeError(f"{cls.__name__} does not say how it is built")

    def begins_trained(self) -> bool:
        """Say whether the first step already takes networks that have learned."""
        return False

    def views(self) -> Views:
        """Return how the views of a batch are made, by name: what `skelpipe.loader.Loader` takes.

        Asked for after the `advance` of each epoch's first step, so that stages may have views of their own. The
        loader stays while the same objects are returned.
        """
        raise TypeError(f"{type(self).__name__} does not say what its views are")

    def advance(self, progress: Progress) -> None:
        """Prepare for the step at `progress`. Nothing changes by default."""

    def forward(self, batch: Batch) -> Step:
        """Return the loss of a batch; key networks and queues move on."""
        raise TypeError(f"{type(self).__name__} has no step")

    def finish(self) -> None:
        """Follow up a step of the optimiser. Nothing is left to do by default."""

    def streams(self, view: str) -> tuple[str, ...]:
        """Return the views that `networks` has networks for, in a run whose loader shows `view`."""
        return (view,)

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        """Return the query encoder (clips to h [N,D]) and head (h to z) that evaluation uses for a view."""
        raise TypeError(f"{type(self).__name__} has no networks to judge")
