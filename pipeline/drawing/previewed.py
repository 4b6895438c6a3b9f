"""What each view of a method makes of one clip: a scene of two panels per view, with its draws in words."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.augment.region import BLOCK
from skelpipe.dataset import Dataset
from skelpipe.drawing.moving_joints import moving_joints
from skelpipe.drawing.scene import Panel, Scene, absent_as_nan, make_panel
from skelpipe.drawing.sources import CLIP_RATE, class_names, find_sample
from skelpipe.drawing.words import steps
from skelpipe.loader.view_recipes import BatchInProgress, Marked, Mats, On, ViewRecipes, view_recipes

__all__ = ["Preview", "preview"]

BATCH = 4  # clips, of which the first is shown: the others are donors of mixes


@dataclass(frozen=True)
class Preview:
    """The views `names` of one clip, which have the same recipe: `scene` has the clip before and after.

    `steps` says in words what was drawn for the first of them, one line per augmentation.
    """

    names: tuple[str, ...]
    steps: Mapping[str, str]
    scene: Scene


def preview(
    dataset: Dataset, recipe: ViewRecipes, identity: str | None = None, *, seed: int = 0, epoch: int = 0
) -> list[Preview]:
    """Make the views of a batch of the joint view and return one clip in each of them.

    `recipe` is what a method's `views()` returns and a loader takes; `epoch` (from 0) and `seed` are those of the
    draws. The clip is that of `identity`, or the one that `find_sample` returns; the next clips fill the batch,
    and what the batch draws in common depends on it. Joints whose motion differs most from the mean clip's stand
    for an actionlet, which would need a trained network.
    """
    subset, row = find_sample(dataset, identity)
    count = dataset.count(subset)
    rows = [(row + step) % count for step in range(min(BATCH, count))]
    clips = torch.from_numpy(dataset.reader(subset, "joint").gather(np.array(rows)))
    recipe = {name: _without_network(content, dataset) for name, content in recipe.items()}
    batch = BatchInProgress(clips, lambda x: x)
    alike: dict[Any, Preview] = {}
    for slot, (name, of_view) in enumerate(view_recipes(recipe).items()):
        params = of_view.sample(Draws(seed, epoch, torch.as_tensor(rows), slot), clips.shape)
        view = batch.made[name] = of_view.make(batch, of_view.folded(params, clips.shape))
        kind = id(recipe[name])
        if kind in alike:
            alike[kind] = replace(alike[kind], names=(*alike[kind].names, name))
            continue
        lines = _steps(recipe[name], params, clips.shape, dataset)
        scene = _scene(dataset, subset, row, clips[0], view.clip[0], _mask(view.extras, clips.shape))
        alike[kind] = Preview((name,), lines, scene)
    return list(alike.values())


def _without_network(content: Any, dataset: Dataset) -> Any:
    if not isinstance(content, Mats | Marked):
        return content
    return replace(content, actionlet=moving_joints(dataset.anchor("joint"), "joint", dataset.layout))


def _steps(content: Any, params: Any, shape: torch.Size, dataset: Dataset) -> dict[str, str]:
    """Return a line for each augmentation of a view."""
    if content is None:
        return {"as stored": "no augmentation"}
    op = content.op if isinstance(content, On) else content
    op = op.augmentation if isinstance(op, Marked) else op
    op = getattr(op, "op", op)  # an augmentation that changes with the epochs holds the current one
    start = {f"made from {content.view}": "see there"} if isinstance(content, On) else {}
    return start | steps(op, params, shape, dataset.layout)


def _mask(extras: Mapping[str, Tensor], shape: torch.Size) -> np.ndarray | None:
    """Return the joints of the first clip that are in an operator's mask, bool [M,T,V]."""
    if "mask" not in extras:
        return None
    mask = extras["mask"][0]
    frames, joints, bodies = shape[2:]
    mask = mask[..., None] if mask.dim() == 2 else mask
    if len(mask) < frames:
        mask = mask.repeat_interleave(BLOCK, 0)[:frames]
    return (mask > 0).expand(frames, joints, bodies).permute(2, 0, 1).numpy()


def _scene(
    dataset: Dataset, subset: str, row: int, before: Tensor, after: Tensor, marked: np.ndarray | None
) -> Scene:
    present = [m for m in range(before.shape[3]) if before[..., m].any() or after[..., m].any()]
    panels = (_panel(before, dataset, present, "before"), _panel(after, dataset, present, "after"))
    if marked is not None:
        panels = (panels[0], replace(panels[1], marked=marked[present], means="joints of the mask"))
    name = class_names(dataset, subset, np.array([row]))[0]
    units = {"units": dataset.card["units"]}
    return Scene(dataset.ids(subset)[row], name, units, dataset.layout, CLIP_RATE, panels)


def _panel(clip: Tensor, dataset: Dataset, present: list[int], caption: str) -> Panel:
    drawn = absent_as_nan(clip.numpy(), clip.numpy())[..., present]
    return make_panel("joint", drawn, drawn, dataset.layout, tuple(f"body {m + 1}" for m in present), caption)
