"""A clip augmented as training would augment it, with the draws in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.named_chains import ACTCLR, CHAINS
from skelpipe.augment.region import BLOCK
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.drawing.moving_joints import moving_joints
from skelpipe.drawing.words import steps
from skelpipe.errors import UsageError
from skelpipe.loader.mixing_views import actclr, actclr_released, skelemixclr
from skelpipe.loader.recipe_views import RecipeViews
from skelpipe.loader.view_recipes import (
    BatchInProgress,
    Marked,
    Mats,
    Mixing,
    On,
    ViewRecipes,
    view_recipes,
    with_used,
)
from skelpipe.skeleton import Layout
from skelpipe.views import POSITIONS, derive
from skelpipe.yaml_reader import nearest, parse_yaml

__all__ = ["NAMES", "Augmented", "Choice", "augmented", "donor_row"]

MIXES = ("skelemix", "skeletonmix", "mats")
NAMES = tuple(dict.fromkeys((*CHAINS, *MIXES)))


@dataclass(frozen=True)
class Choice:
    """Which augmentation is shown, and with the draws of which seed and epoch.

    `name` is one of NAMES, or a list of operators or changes of a chain in YAML (see `augment.op_lists`); with a
    `recipe` it is one of the recipe's views.
    """

    name: str
    variant: str = "paper"
    seed: int = 0
    epoch: int = 0
    recipe: RecipeViews | None = None

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys((*CHAINS, *MIXES)))
        if self.recipe is None and not self.is_list and self.name not in names:
            raise UsageError(
                f"no augmentation is called {self.name!r}; {nearest(self.name, names)}"
                f"known: {', '.join(names)}; or give a list, such as '[crop, {{shear: 0.5}}]'"
            )

    @property
    def is_list(self) -> bool:
        """Whether the name is a list of operators, or a mapping of changes of a chain."""
        return self.recipe is None and self.name.lstrip().startswith(("[", "{"))

    def mixes(self, layout: Layout, view: str) -> bool:
        """Return whether a second clip, the donor, is needed."""
        return any(_takes_donor(content) for content in self._shown(layout, view))

    def finds_actionlet(self, layout: Layout, view: str) -> bool:
        """Return whether an actionlet is needed, for which the dataset's mean clip is."""
        return any(isinstance(content, Mats | Marked) for content in self._shown(layout, view))

    def contents(self, layout: Layout, view: str, actionlet: Callable[[Tensor], Tensor]) -> ViewRecipes:
        """Return the view recipes whose last view is shown: those of the method that this view needs, in order."""
        if self.recipe is not None:
            return _until(self.name, self.recipe.recipes(layout, view, actionlet), self.recipe.where)
        if self.is_list:
            ops = parse_yaml(self.name, "--augment")
            return {"query": chain(ops, layout=layout, variant=self.variant, where="--augment", at="list")}
        if self.name == "skelemix":
            return _until("mixed", skelemixclr(layout))
        if self.name == "skeletonmix":
            late = self.variant == "released"
            return {"query": chain("normal"), "mixed": On("query", SkeletonMix(layout, curriculum=late))}
        if self.name == "mats":
            make = actclr_released if self.variant == "released" else actclr
            return _until("query", make(layout, view, actionlet))
        curriculum = self.variant == "released" and self.name in ACTCLR
        return {"query": chain(self.name, layout=layout, variant=self.variant, curriculum=curriculum)}

    def _shown(self, layout: Layout, view: str) -> list[Any]:
        """Return how the view that is shown, and those that it is made from, are made."""
        contents = self.contents(layout, view, _no_actionlet)
        return [contents[name] for name in with_used(view_recipes(contents), [list(contents)[-1]])]


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
    depends on its first clip. A view that is made by an actionlet needs an `actionlet`, or the mean clip `anchor`
    [C,T,V,M] of the view, from which the joints that move most take its place.
    """
    if clips.shape[1] < POSITIONS:
        raise UsageError(f"augmentations need the axes x, y and z; these clips have {clips.shape[1]}")
    if actionlet is None:
        actionlet = _no_actionlet if anchor is None else moving_joints(anchor, view, layout)
    contents = choice.contents(layout, view, actionlet)
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
    marked, means = _marked(contents[last], shown.extras, batch.clips.shape)
    return Augmented(shown.clip[0].numpy(), positions[0].numpy(), marked, means, drawn, before)


def donor_row(choice: Choice, row: int, count: int, dataset: str | Path) -> int:
    """Draw the row, of `count`, of the clip that clip `row` is mixed with: any other.

    UsageError, which names the `dataset`, where there is no other.
    """
    if count < 2:
        raise UsageError(f"{dataset}: {choice.name} needs a second clip of the same subset, and there is none")
    draws = Draws(choice.seed, choice.epoch, torch.tensor([row])).shared()
    return (row + int(draws.integers(1, 1, count))) % count


def _no_actionlet(clips: Tensor) -> Tensor:
    raise UsageError("this view needs the average motion of a dataset, from which its actionlet is computed")


def _takes_donor(content: Any) -> bool:
    op = content.op if isinstance(content, On) else content
    ops = op.ops if isinstance(op, Chain) else (op,)
    return isinstance(content, Mats) or any(isinstance(each, Mixing | SkeletonAdaIN) for each in ops)


def _until(last: str, recipe: ViewRecipes, where: str = "") -> ViewRecipes:
    """Return the views up to the `last`, also those that it does not use, since they count for the slots."""
    names = list(recipe)
    if last not in names:
        raise UsageError(f"{where} has no view {last!r}; {nearest(last, names)}it has: {', '.join(names)}")
    return {name: recipe[name] for name in names[: names.index(last) + 1]}


def _joints(contents: ViewRecipes, batch: BatchInProgress, name: str) -> tuple[Tensor, bool]:
    """Return the joints to draw motion at, and whether they are those of an earlier view."""
    before = False
    while (joints := batch.made[name].joints) is None:
        content = contents[name]
        assert isinstance(content, On | Mats), "views made from the clips have joints"
        name, before = content.view if isinstance(content, On) else content.act, True
    return joints, before


def _marked(content: Any, extras: Mapping[str, Tensor], shape: Sequence[int]) -> tuple[np.ndarray | None, str]:
    """Return the joints of the first clip that are in the operator's mask, bool [T,V,M], and what that means."""
    if "mask" not in extras:
        return None, ""
    mask = extras["mask"][0]
    op = content.op if isinstance(content, On) else content
    if isinstance(op, SkeleMix):
        mask = mask.repeat_interleave(BLOCK, 0)
    mask = mask[..., None] if mask.dim() == 2 else mask
    means = {SkeleMix: "from the donor", SkeletonMix: "mixed with the donor"}
    return (mask > 0).expand(*shape[2:]).numpy(), means.get(type(op), "in the actionlet")


def _steps(content: Any, params: Any, shape: Sequence[int], layout: Layout, view: str) -> dict[str, str]:
    """Return a line for each operator of one view."""
    if content is None:
        return {view: "as stored"}
    op, source = (content.op, f" (on {content.view})") if isinstance(content, On) else (content, "")
    op = op.augmentation if isinstance(op, Marked) else op
    before = f"{view}{source}: " if view else ""
    return {before + name: line for name, line in steps(op, params, shape, layout).items()}
