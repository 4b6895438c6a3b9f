"""What methods are built from, as a recipe describes it: backbones, heads, key networks, augmentations."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.named_chains import views_of
from skelpipe.augment.op_lists import view_ops
from skelpipe.models.batch_norm import BatchNorm1d
from skelpipe.models.encoders import Encoder, build_encoder, draw_weights
from skelpipe.models.moco import MoCo
from skelpipe.models.recipe import MethodRecipe
from skelpipe.models.settings import ContrastSettings, HeadSettings, ProjectionSettings
from skelpipe.settings import nested
from skelpipe.skeleton import Layout

__all__ = [
    "ContrastSettings",
    "HeadSettings",
    "MethodRecipe",
    "Parts",
    "ProjectionSettings",
    "projection_head",
]

S = TypeVar("S")


@dataclass(frozen=True)
class Parts:
    """Builds the parts of one method. Every call draws new weights from torch's global generator.

    `view` is what the loader shows. `anchor` returns the mean training clip [C,T,V,M] of that view; it is None
    where no dataset is at hand, as when trained weights are only to be evaluated: a method that keeps the anchor
    keeps it in a buffer that is not persistent. `channels` is the number of channels of the clips.
    """

    recipe: MethodRecipe
    layout: Layout
    view: str = "joint"
    anchor: Callable[[], Tensor] | None = None
    channels: int = 3
    _chains: dict[str, Chain] = field(default_factory=dict, init=False, repr=False, compare=False)

    def encoder(self) -> Encoder:
        """Return a new backbone."""
        return build_encoder(self.recipe.encoder, self.layout, self.recipe.init, self.channels)

    def head(self, in_dim: int | None = None, hidden: int = 0) -> nn.Module:
        """Return a new projection head on features of `in_dim` channels, the backbone's where none is given.

        `hidden` are the units of its hidden layer, with 0 the recipe's.
        """
        settings, width = self._own(ProjectionSettings).head, self.feature_dim if in_dim is None else in_dim
        head = projection_head(width, hidden or settings.hidden, settings.dim, settings.batch_norm)
        draw_weights(head, self.recipe.init)
        return head

    def moco(self, encoder: nn.Module | None = None, head: nn.Module | None = None) -> MoCo:
        """Return a query network, new where none is given, with its key network (a copy) and its queue."""
        if encoder is None:
            encoder = self.encoder()
        if head is None:
            head = self.head(int(encoder.feature_dim))  # type: ignore[arg-type]
        own = self._own(ContrastSettings)
        return MoCo(encoder, head, dim=self.dim, queue_size=own.queue, momentum=own.momentum)

    def views(self) -> dict[str, Chain]:
        """Return the augmentations of all views that the method augments, by name: see `view_chain`."""
        return {name: self.view_chain(name) for name in views_of(self.recipe.method, self.recipe.variant)}

    def view_chain(
        self, name: str, default: str = "", *, curriculum: bool = False, begins: int = 0, first: int = 0
    ) -> Chain:
        """Return the augmentation of the view `name`: the recipe's, or the chain `default` where it names none.

        Without a `default` it is the one of the method's `view_chains`.

        With `curriculum` it leaves out operators by epoch, counted from epoch `begins`, as the chain `default`
        does; `first` is the number of its first operator. Views that are augmented alike have the same object.
        """
        default = default or views_of(self.recipe.method, self.recipe.variant)[name]
        ops = view_ops(self.recipe.views, name, default)
        how: dict[str, Any] = {"curriculum": curriculum and default, "begins": begins, "first": first}
        alike = repr((ops, how))
        if alike not in self._chains:
            self._chains[alike] = chain(
                ops,
                layout=self.layout,
                variant=self.recipe.variant,
                where="recipe",
                at=f"views.{name}",
                **how,
                **self.augment,
            )
        return self._chains[alike]

    @property
    def dim(self) -> int:
        """The channels of an embedding z."""
        return self._own(ProjectionSettings).head.dim

    def _own(self, kind: type[S]) -> S:
        """Return the method's settings, which have those of a `kind`; TypeError where they do not inherit them."""
        settings = self.recipe.settings
        if not isinstance(settings, kind):
            raise TypeError(f"the Settings of {self.recipe.method} inherit no {kind.__name__}, which it builds by")
        return settings

    @property
    def augment(self) -> dict[str, Any]:
        """The strengths of the normal augmentation by name."""
        return nested(self.recipe.augment)

    @cached_property
    def feature_dim(self) -> int:
        """The channels of the backbone's pooled feature h. Draws nothing from the global generator."""
        with torch.random.fork_rng(devices=()):
            return self.encoder().feature_dim


def projection_head(in_dim: int, hidden: int, out_dim: int, batch_norm: bool = False) -> nn.Sequential:
    """Return the MLP h [N, in_dim] -> [N, out_dim]: Linear, (BatchNorm,) ReLU, Linear. It does not normalise.

    `batch_norm` adds the batch normalisation of SkeleMixCLR's and SkeAttnCLR's code (divergence
    `skelemixclr-head-norm`).
    """
    norm = [BatchNorm1d(hidden)] if batch_norm else []
    return nn.Sequential(nn.Linear(in_dim, hidden), *norm, nn.ReLU(), nn.Linear(hidden, out_dim))
