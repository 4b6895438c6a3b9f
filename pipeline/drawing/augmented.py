"""A clip before and after an augmentation, with the draws that training would make for it."""

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
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.drawing.standin import MEANING, moving_joints
from skelpipe.drawing.words import title, words
from skelpipe.errors import UsageError
from skelpipe.loader.mixing_views import actclr, skelemixclr
from skelpipe.loader.view_recipes import BatchInProgress, Mats, On, ViewRecipes, view_recipes, with_used
from skelpipe.skeleton import Layout
from skelpipe.views import derive

__all__ = ["NAMES", "Augmented", "Choice", "augmented", "donor_row"]

MIXES = ("skelemix", "skeletonmix", "mats")
NAMES = tuple(dict.fromkeys((*CHAINS, *MIXES)))


@dataclass(frozen=True)
class Choice:
    """Which augmentation is shown, and whose draws: `name` is one of NAMES."""

    name: str
    variant: str = "paper"
    seed: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UsageError(f"no augmentation is called {self.name!r}; known: {', '.join(NAMES)}")

    @property
    def mixes(self) -> bool:
        """Whether a second clip is needed, the donor."""
        return self.name in MIXES


@dataclass(frozen=True)
class Augmented:
    """The first clip of a batch, augmented.

    `shown` [C,T,V,M] is the view asked for, `joint` the positions at which motion is drawn, with `joints_before`
    those before a mix, which has none of its own. `marked` bool [T,V,M] is the operator's mask, `means` what it
    tells. `drawn` says step by step, in words, what was drawn.
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
) -> Augmented:
    """Augment joint clips [N,C,T,V,M], rows `index` of their subset: one clip, or to be mixed one and its donor.

    They are treated as a loader's batch: view number i of the recipe draws with slot i. What a batch has in
    common follows from its first clip. `anchor` [C,T,V,M] is the mean clip of the view, which "mats" needs.
    """
    if clips.shape[1] != 3:
        raise UsageError(f"augmentations need the axes x, y and z; these clips have {clips.shape[1]}")
    recipe = _recipe(choice, layout, view, anchor)
    made = view_recipes(recipe)
    scene = BatchInProgress(torch.from_numpy(clips), lambda x: derive(x, view, layout))
    drawn = {}
    last = list(recipe)[-1]
    needed = with_used(made, [last])
    for slot, (name, entry) in enumerate(made.items()):
        if name not in needed:
            continue
        draws = Draws(choice.seed, choice.epoch, torch.as_tensor(index), slot)
        params = entry.sample(draws, scene.clips.shape)
        scene.made[name] = entry.make(scene, entry.plan(params, scene.clips.shape))
        drawn.update(_steps(recipe[name], params, scene.clips.shape, layout, name if len(recipe) > 1 else ""))
    positions, before = (scene.made[last].clip, False) if view == "joint" else _joints(recipe, scene, last)
    marked, means = _marked(choice, scene.made[last].extras, scene.clips.shape)
    return Augmented(scene.made[last].clip[0].numpy(), positions[0].numpy(), marked, means, drawn, before)


def donor_row(choice: Choice, row: int, count: int, place: str | Path) -> int:
    """Return the row, of `count`, of the clip that clip `row` is shown mixed with: any other, drawn.

    UsageError, which names the dataset's `place`, where there is no other.
    """
    if count < 2:
        raise UsageError(f"{place}: {choice.name} needs a second clip of the same subset, and there is none")
    draws = Draws(choice.seed, choice.epoch, torch.tensor([row])).shared()
    return (row + int(draws.integers(1, 1, count))) % count


def _recipe(choice: Choice, layout: Layout, view: str, anchor: np.ndarray | None) -> ViewRecipes:
    """Return the recipe whose last view is shown: of the method's, all that this view needs, in order."""
    if choice.name == "skelemix":
        return _until("mixed", skelemixclr(layout))
    if choice.name == "skeletonmix":
        late = choice.variant == "released"
        return {"query": chain("normal"), "mixed": On("query", SkeletonMix(layout, curriculum=late))}
    if choice.name == "mats":
        if anchor is None:
            raise UsageError("mats needs the average motion of a dataset, by which its actionlet is told")
        inside: Callable[[Tensor], Tensor] = moving_joints(anchor, view, layout)
        return _until("query", actclr(layout, view, inside, variant=choice.variant))
    curriculum = choice.variant == "released" and choice.name in ACTCLR
    return {"query": chain(choice.name, layout=layout, variant=choice.variant, curriculum=curriculum)}


def _until(wanted: str, recipe: ViewRecipes) -> ViewRecipes:
    """Return the views up to the one wanted, those it has no use for too: slots are counted by them."""
    names = list(recipe)
    return {name: recipe[name] for name in names[: names.index(wanted) + 1]}


def _joints(recipe: ViewRecipes, scene: BatchInProgress, name: str) -> tuple[Tensor, bool]:
    """Return joints to draw motion at, and whether they are those of an earlier view."""
    before = False
    while (joints := scene.made[name].joints) is None:
        content = recipe[name]
        assert isinstance(content, On | Mats), "fresh views have joints"
        name, before = content.view if isinstance(content, On) else content.act, True
    return joints, before


def _marked(choice: Choice, extras: Mapping[str, Tensor], shape: Sequence[int]) -> tuple[np.ndarray | None, str]:
    """Return the first clip's joints that the operator's mask singles out, bool [T,V,M], and what that means."""
    if "mask" not in extras:
        return None, ""
    mask = extras["mask"][0]
    if choice.name == "skelemix":
        mask = mask.repeat_interleave(BLOCK, 0)
    mask = mask[..., None] if mask.dim() == 2 else mask
    means = {"skelemix": "from the donor", "skeletonmix": "mixed with the donor", "mats": "in the actionlet"}
    return (mask > 0).expand(*shape[2:]).numpy(), means[choice.name]


def _steps(content: Any, params: Any, shape: Sequence[int], layout: Layout, view: str) -> dict[str, str]:
    """Return a line for each operator of one view of a recipe."""
    if isinstance(content, Mats):
        line = f"{content.act} inside the actionlet, {content.non} outside; actionlet: {MEANING}"
        return {f"{view}: MATS": line}
    op = content.op if isinstance(content, On) else content
    source = f" (on {content.view})" if isinstance(content, On) else ""
    before = f"{view}{source}: " if view else ""
    if not isinstance(op, Chain):
        return {f"{before}{title(op)}": words(op, params, shape, layout)}
    lines = {}
    for number, (step, drawn) in enumerate(zip(op.ops, params, strict=True), 1):
        lines[f"{before}{number} {title(step)}"] = words(step, drawn, shape, layout)
    return lines
