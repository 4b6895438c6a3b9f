"""The interface between a self-supervised method and the training loop: views, steps and networks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from skelpipe.loader.view_recipes import ViewRecipes
from skelpipe.models.moco import MoCo
from skelpipe.models.parts import Parts
from skelpipe.models.settings import NoSettings

__all__ = ["Logits", "Method", "NoSettings", "Parts", "Progress", "Step", "ViewBatch", "ViewRecipes", "spread"]


class ViewBatch(Protocol):
    """A batch as methods see it: named views [N, C, T, V, M] of the same N clips, on the device.

    `extras` holds what came with the views, such as `mixed_mask` and `mixed_donor`.
    """

    @property
    def views(self) -> Mapping[str, Tensor]: ...

    @property
    def extras(self) -> Mapping[str, Tensor]: ...


class Logits(Mapping[str, Tensor]):
    """Logits by name, detached. Those given as columns, or as a function, are put together when they are read.

    So a step pays nothing for logits that it has in pieces, such as those of the queue and a hard negative.
    """

    def __init__(self, content: Mapping[str, Tensor | Sequence[Tensor] | Callable[[], Tensor]]) -> None:
        self._content: dict[str, Callable[[], Tensor]] = {}
        for name, given in content.items():
            if isinstance(given, Tensor):
                self._content[name] = given.detach().detach  # without the graph
            elif isinstance(given, Sequence):
                self._content[name] = partial(torch.cat, [each.detach() for each in given], 1)
            else:
                self._content[name] = given

    def __getitem__(self, name: str) -> Tensor:
        return self._content[name]().detach()

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


@dataclass(frozen=True)
class Step:
    """The result of one forward pass of a method: `loss` to call backward on, and values to watch.

    `embeddings` are the queries z [N, dim] and `keys` the keys (none where a method has none), both detached.
    `logs` are detached scalars; they stay on the device, so that a step need not wait for them. `logits` are those
    behind the contrastive losses, detached, by name of the query: [N, 1 + K] divided by the temperature, with the
    positive in column 0, then the queue; [N, 2 + K] where a hard negative follows. They are empty where a method
    has none.
    """

    loss: Tensor
    embeddings: Tensor
    keys: Tensor | None = None
    logs: dict[str, Tensor] = field(default_factory=dict)
    logits: Mapping[str, Tensor] = field(default_factory=dict)


@torch.no_grad()
def spread(z: Tensor) -> Tensor:
    """Return the mean standard deviation of unit vectors z [N, D] times sqrt(D), a measure of collapse.

    It is 1 when they are spread evenly over the sphere and 0 when all are the same vector.
    """
    z = z.float()
    return z.std(dim=0, correction=0).mean() * z.shape[1] ** 0.5


@dataclass(frozen=True)
class Progress:
    """The position of a step in a run: `epoch` of `epochs` and `step` of `steps`, both counted from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int


class Method(nn.Module):
    """A self-supervised method. `Settings` is the type of its section in a recipe; `models.build` builds it.

    A step is: `advance(progress)`, `forward(batch)`, backward, optimiser, `finish()`. Stages, momentum and all
    else that depends on time is a pure function of `progress`, so that a resumed run continues exactly; state that
    must survive a restart is a parameter or a buffer. With gradient accumulation a step of the optimiser has
    several `forward` and backward between `advance` and `finish`, and `progress` counts the optimiser's steps.

    Several processes may share a batch, each with some of its rows. Losses and logs are means over rows, so that
    the loop can weight and add them; `MoCo.enqueue` takes a process's own keys and writes those of all. Draws of
    `advance` from torch's generator before an epoch's first step are equal in all processes, later draws are not.
    """

    name: ClassVar[str]
    Settings: ClassVar[type] = NoSettings
    # The views that it augments, each with the name of its chain: see `Parts.view_chain`. Read for plug-ins only.
    view_chains: ClassVar[Mapping[str, str]] = {"query": "normal", "key": "normal"}
    # Whether steps depend on the number of epochs of the run: such a run cannot be lengthened.
    depends_on_run_length: ClassVar[bool] = False

    @classmethod
    def build(cls, parts: Parts, settings: Any) -> Self:
        """Return a new method made of `parts`; `settings` is its section of the recipe, a `Settings`."""
        method = cls(parts, settings)
        method.recipes = parts.views()
        return method

    # What `views` returns unless a method has its own: set by `build`.
    recipes: ViewRecipes | None = None

    # Whether the run continues another with its key networks and queues: see `continue_from`.
    continued: bool = False

    def continue_from(self, state: Mapping[str, Tensor]) -> None:
        """Load the whole state of a run that this one continues; a first stage then draws no new queue."""
        self.load_state_dict(state)
        self.continued = True

    def contrast(self, view: str) -> tuple[str, MoCo]:
        """Return name and module of the `MoCo` that has the encoder of `networks`; TypeError where none has."""
        encoder, _ = self.networks(view)
        for name, module in self.named_modules():
            if isinstance(module, MoCo) and module.encoder is encoder:
                return name, module
        raise TypeError(f"{type(self).__name__} has no key network for {view}")

    def needs_trained_networks(self) -> bool:
        """Say whether the first step needs trained networks, which a run then starts from."""
        return False

    def views(self) -> ViewRecipes:
        """Return the view recipes by name, for `skelpipe.loader.Loader`.

        Called after the `advance` of each epoch's first step, so that stages may have views of their own. The loop
        keeps its loader while the same objects are returned. By default they are those of `view_chains`.
        """
        if self.recipes is None:
            raise TypeError(f"{type(self).__name__} has no `views`")
        return self.recipes

    def advance(self, progress: Progress) -> None:
        """Prepare for the step at `progress`. By default nothing changes."""

    def forward(self, batch: ViewBatch) -> Step:
        """Return the loss of a batch; updates key networks and queues."""
        raise TypeError(f"{type(self).__name__} has no step")

    def finish(self) -> None:
        """Called after a step of the optimiser. By default does nothing."""

    def streams(self, view: str) -> tuple[str, ...]:
        """Return the views for which `networks` has networks, in a run whose loader shows `view`."""
        return (view,)

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        """Return the query encoder (clips to h [N,D]) and head (h to z) that evaluation uses for a view.

        By default they are the method's `encoder` and `head`.
        """
        encoder, head = getattr(self, "encoder", None), getattr(self, "head", None)
        if not (isinstance(encoder, nn.Module) and isinstance(head, nn.Module)):
            raise TypeError(f"{type(self).__name__} has no networks to evaluate")
        return encoder, head
