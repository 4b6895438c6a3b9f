"""What a step of pre-training costs: the weights of its networks, and multiplications in its forward passes."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from skelpipe import skeleton
from skelpipe.loader.view_recipes import Mats, On
from skelpipe.models import build_method
from skelpipe.models.method import Method, Progress
from skelpipe.skeleton import Layout
from skelpipe.train.recipes.schema import PretrainRecipe

__all__ = ["Cost", "cost_of"]

CLIPS = 4  # that are counted
LAST = 0.9  # of a run: every method is in its last stage
BLOCK = 4  # frames per step of a mixed clip's mask


@dataclass(frozen=True)
class Cost:
    """The weights of all networks of a method, key networks included, and of what is evaluated: one encoder.

    `multiply_adds` are those of one clip in a forward step: every view through its network, the losses, and what
    the views themselves need of a network. A multiplication and the addition that follows count as one.
    """

    parameters: int
    encoder: int
    multiply_adds: float

    def figures(self, batch_size: int) -> dict[str, float]:
        """Return 10^6 weights and 10^9 multiply-adds of a step of so many clips, as table 9 of MsMCLR does."""
        return {"parameters": self.parameters / 1e6, "gflops": self.multiply_adds * batch_size / 1e9}


@dataclass(frozen=True)
class _Clips:
    """A batch as methods see it, without content."""

    views: Mapping[str, Tensor]
    extras: Mapping[str, Tensor]


class _Multiplications(TorchDispatchMode):
    """Adds up the operations of matrix products, convolutions and attention; the others are left out."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result


def cost_of(recipe: PretrainRecipe, view: str = "joint", *, layout: Layout | None = None, bodies: int = 2) -> Cost:
    """Count the cost of a recipe on clips with its frames, of `bodies` bodies in `layout` (Kinect v2's).

    Nothing is computed: tensors have shapes only. The method is in its last stage.
    """
    layout = layout or skeleton.layout("kinect-v2-25")
    shape = (3, recipe.frames, len(layout), bodies)
    with torch.device("meta"):
        method = build_method(recipe, layout, view, lambda: torch.zeros(shape))
    method.train()
    method.advance(Progress(round(LAST * recipe.epochs), recipe.epochs, 0, 1))
    batch, actionlets = _batch(method, shape)
    counter = _Multiplications()
    # autocast knows no meta device; the methods switch it off only.
    with mock.patch.object(torch, "autocast", return_value=nullcontext()), torch.no_grad(), counter:
        for actionlet in actionlets:
            actionlet(torch.zeros(CLIPS, *shape, device="meta"))
        method(batch)
    parameters, encoder = (
        sum(each.numel() for each in network.parameters())
        for network in (method, method.networks(method.streams(view)[0])[0])
    )
    return Cost(parameters, encoder, counter.total / 2 / CLIPS)


def _batch(method: Method, shape: tuple[int, ...]) -> tuple[_Clips, list[Callable[[Tensor], Tensor]]]:
    """Return clips for the views of a method, with their extras, and the networks that making them takes."""
    views, extras, actionlets = {}, {}, []
    for name, entry in method.views().items():
        views[name] = torch.zeros(CLIPS, *shape, device="meta")
        if isinstance(entry, Mats):
            actionlets.append(entry.actionlet)
        for extra in entry.extras if isinstance(entry, On) else ():
            extras[f"{name}_{extra}"] = (
                torch.zeros(CLIPS, dtype=torch.int64, device="meta")
                if extra == "donor"
                else torch.zeros(CLIPS, shape[1] // BLOCK, shape[2], dtype=torch.bool, device="meta")
            )
    return _Clips(views, extras), actionlets
