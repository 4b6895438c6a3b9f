"""A clip augmented as training would augment it, with the draws in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.chain import chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.named_chains import ACTCLR, CHAINS
from skelpipe.augment.region import BLOCK
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.drawing.moving_joints import moving_joints
from skelpipe.drawing.words import steps
from skelpipe.errors import UsageError
from skelpipe.loader.mixing_views import actclr, skelemixclr
from skelpipe.loader.view_recipes import BatchInProgress, Mats, On, ViewRecipes, view_recipes, with_used
from skelpipe.skeleton import Layout
from skelpipe.views import POSITIONS, derive

__all__ = ["NAMES", "Augmented", "Choice", "augmented", "donor_row"]

MIXES = ("skelemix", "skeletonmix", "mats")
NAMES = tuple(dict.fromkeys((*CHAINS, *MIXES)))


@dataclass(frozen=True)
class Choice:
    """Which augmentation is shown, one of NAMES, and with the draws of which seed and epoch."""

    name: str
    variant: str = "paper"
    seed: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UsageError(f"no augmentation is called {self.name!r}; known: {', '.join(NAMES)}")

    @property
    def mixes(self) -> bool:
        """Whether a second clip, the donor, is needed."""
        return self.name in MIXES


@dataclass(frozen=True)
class Augmented:
    """The first clip of a batch, augmented.

    `shown` [C,T,V,M] is the view asked for. `joint` are the positions at which motion is drawn; with
    `joints_before` they are those before a mix, since a mixed view has none. `marked` bool [T,V,M] is the
    operator's mask and `means` its meaning. `drawn` says in words, step by step, what was drawn.
    """

    shown: np.ndarray
    joint: np.ndarray
    marked: np.ndarray | None
    means: str
    drawn: Mapping[str, str]
    joints_before: bool


def augmented(
    clips: np.ndarray,
    index: Sequence[int],
    layout: Layout,
    view: str,
    choice: Choice,
    anchor: np.ndarray | None = None,
    actionlet: Callable[[Tensor], Tensor] | None = None,
) -> Augmented:
    """Augment joint clips [N,C,T,V,M], rows `index` of their subset: one clip, or for a mix a clip and its donor.

    They are treated as a loader's batch: view number i of the recipe draws with slot i. What a batch has in common
    depends on its first clip. "mats" needs an `actionlet`, or the mean clip `anchor` [C,T,V,M] of the view, from
    which the joints that move most take its place.
    """
    if clips.shape[1] < POSITIONS:
        raise UsageError(f"augmentations need the axes x, y and z; these clips have {clips.shape[1]}")
    contents = _contents(choice, layout, view, anchor, actionlet)
    recipes = view_recipes(contents)
    batch = BatchInProgress(torch.from_numpy(clips), lambda x: derive(x, view, layout))
    drawn = {}
    last = list(contents)[-1]
    needed = with_used(recipes, [last])
    for slot, (name, recipe) in enumerate(recipes.items()):
        if name not in needed:
            continue
        draws = Draws(choice.seed, choice.epoch, torch.as_tensor(index), slot)
        params = recipe.sample(draws, batch.clips.shape)
        batch.made[name] = recipe.make(batch, recipe.folded(params, batch.clips.shape))
        drawn.update(_steps(contents[name], params, batch.clips.shape, layout, name if len(contents) > 1 else ""))
    shown = batch.made[last]
    positions, before = (shown.clip, False) if view == "joint" else _joints(contents, batch, last)
    marked, means = _marked(choice, shown.extras, batch.clips.shape)
    return Augmented(shown.clip[0].numpy(), positions[0].numpy(), marked, means, drawn, before)


def donor_row(choice: Choice, row: int, count: int, dataset: str | Path) -> int:
    """Draw the row, of `count`, of the clip that clip `row` is mixed with: any other.

    UsageError, which names the `dataset`, where there is no other.
    """
    if count < 2:
        raise UsageError(f"{dataset}: {choice.name} needs a second clip of the same subset, and there is none")
    draws = Draws(choice.seed, choice.epoch, torch.tensor([row])).shared()
    return (row + int(draws.integers(1, 1, count))) % count


def _contents(
    choice: Choice,
    layout: Layout,
    view: str,
    anchor: np.ndarray | None,
    actionlet: Callable[[Tensor], Tensor] | None,
) -> ViewRecipes:
    """Return the view recipes whose last view is shown: those of the method that this view needs, in order."""
    if choice.name == "skelemix":
        return _until("mixed", skelemixclr(layout))
    if choice.name == "skeletonmix":
        late = choice.variant == "released"
        return {"query": chain("normal"), "mixed": On("query", SkeletonMix(layout, curriculum=late))}
    if choice.name == "mats":
        if anchor is None and actionlet is None:
            raise UsageError("mats needs the average motion of a dataset, from which its actionlet is computed")
        inside = actionlet or moving_joints(cast(np.ndarray, anchor), view, layout)
        return _until("query", actclr(layout, view, inside, variant=choice.variant))
    curriculum = choice.variant == "released" and choice.name in ACTCLR
    return {"query": chain(choice.name, layout=layout, variant=choice.variant, curriculum=curriculum)}


def _until(last: str, recipe: ViewRecipes) -> ViewRecipes:
    """Return the views up to the `last`, also those that it does not use, since they count for the slots."""
    names = list(recipe)
    return {name: recipe[name] for name in names[: names.index(last) + 1]}


def _joints(contents: ViewRecipes, batch: BatchInProgress, name: str) -> tuple[Tensor, bool]:
    """Return the joints to draw motion at, and whether they are those of an earlier view."""
    before = False
    while (joints := batch.made[name].joints) is None:
        content = contents[name]
        assert isinstance(content, On | Mats), "views made from the clips have joints"
        name, before = content.view if isinstance(content, On) else content.act, True
    return joints, before


def _marked(choice: Choice, extras: Mapping[str, Tensor], shape: Sequence[int]) -> tuple[np.ndarray | None, str]:
    """Return the joints of the first clip that are in the operator's mask, bool [T,V,M], and what that means."""
    if "mask" not in extras:
        return None, ""
    mask = extras["mask"][0]
    if choice.name == "skelemix":
        mask = mask.repeat_interleave(BLOCK, 0)
    mask = mask[..., None] if mask.dim() == 2 else mask
    means = {"skelemix": "from the donor", "skeletonmix": "mixed with the donor", "mats": "in the actionlet"}
    return (mask > 0).expand(*shape[2:]).numpy(), means[choice.name]


def _steps(content: Any, params: Any, shape: Sequence[int], layout: Layout, view: str) -> dict[str, str]:
    """Return a line for each operator of one view."""
    op, source = (content.op, f" (on {content.view})") if isinstance(content, On) else (content, "")
    before = f"{view}{source}: " if view else ""
    return {before + name: line for name, line in steps(op, params, shape, layout).items()}
