"""What a self-supervised method is to the training loop: its views, its step, what it does around a step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from skelpipe.loader.view_recipes import ViewRecipes
from skelpipe.models.parts import Parts
from skelpipe.models.settings import Setting

__all__ = ["Method", "Parts", "Progress", "Setting", "Step", "ViewBatch", "ViewRecipes", "spread"]


class ViewBatch(Protocol):
    """A batch as methods see it: named views [N, C, T, V, M] of the same N clips, on the device.

    `extras` holds what came with the views, such as `mixed_mask` and `mixed_donor`.
    """

    @property
    def views(self) -> Mapping[str, Tensor]: ...

    @property
    def extras(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class Step:
    """One forward pass of a method: `loss` to call backward on, and what to watch.

    `embeddings` are the queries z [N, dim] and `keys` the keys (none where a method has none), both detached.
    `logs` are detached scalars, left on the device so that a step need not wait for them.
    """

    loss: Tensor
    embeddings: Tensor
    keys: Tensor | None = None
    logs: dict[str, Tensor] = field(default_factory=dict)


@torch.no_grad()
def spread(z: Tensor) -> Tensor:
    """Return the collapse gauge of unit vectors z [N, D]: their mean standard deviation times sqrt(D).

    It is 1 when they are spread evenly over the sphere and 0 when they are all one vector.
    """
    z = z.float()
    return z.std(dim=0, correction=0).mean() * z.shape[1] ** 0.5


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

    def views(self) -> ViewRecipes:
        """Return how the views of a batch are made, by name: what `skelpipe.loader.Loader` takes.

        Asked for after the `advance` of each epoch's first step, so that stages may have views of their own. The
        loader stays while the same objects are returned.
        """
        raise TypeError(f"{type(self).__name__} does not say what its views are")

    def advance(self, progress: Progress) -> None:
        """Prepare for the step at `progress`. Nothing changes by default."""

    def forward(self, batch: ViewBatch) -> Step:
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
