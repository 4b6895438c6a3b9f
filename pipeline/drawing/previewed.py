"""What the views of a method make of one clip: a scene of two panels for each, with its draws in words."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.chain import Chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.region import BLOCK
from skelpipe.dataset import Dataset
from skelpipe.drawing.scene import Panel, Scene, absent_as_nan, make_panel
from skelpipe.drawing.sources import CLIP_RATE, find_sample
from skelpipe.drawing.standin import MEANING, moving_joints
from skelpipe.drawing.words import title, words
from skelpipe.loader.view_recipes import BatchInProgress, Mats, On, ViewRecipes, view_recipes

__all__ = ["Preview", "preview"]

BATCH = 4  # clips, of which the first is shown: mixing takes its donors from the others


@dataclass(frozen=True)
class Preview:
    """The views `names`, which are made alike, of one clip: `scene` has it before and after.

    `steps` says in words what was drawn for the first of them, one line an augmentation.
    """

    names: tuple[str, ...]
    steps: Mapping[str, str]
    scene: Scene


def preview(
    dataset: Dataset, recipe: ViewRecipes, identity: str | None = None, *, seed: int = 0, epoch: int = 0
) -> list[Preview]:
    """Make the views of a batch of the joint view and return what became of one clip in each.

    `recipe` is what a method's `views()` returns or a loader takes, `epoch` (from 0) and `seed` are those of the
    draws. The clip is the one of `identity`, else the one that `find_sample` takes; its neighbours fill the batch,
    and what a batch draws in common follows from it. An actionlet, which needs a trained network, is stood in for
    by the joints that move most.
    """
    subset, row = find_sample(dataset, identity)
    count = dataset.count(subset)
    rows = [(row + step) % count for step in range(min(BATCH, count))]
    clips = torch.from_numpy(dataset.reader(subset, "joint").gather(np.array(rows)))
    recipe = {name: _without_network(content, dataset) for name, content in recipe.items()}
    batch = BatchInProgress(clips, lambda x: x)
    alike: dict[Any, Preview] = {}
    for slot, (name, entry) in enumerate(view_recipes(recipe).items()):
        params = entry.sample(Draws(seed, epoch, torch.as_tensor(rows), slot), clips.shape)
        view = batch.made[name] = entry.make(batch, entry.plan(params, clips.shape))
        kind = id(recipe[name])
        if kind in alike:
            alike[kind] = replace(alike[kind], names=(*alike[kind].names, name))
            continue
        steps = _steps(recipe[name], params, clips.shape, dataset)
        scene = _scene(dataset, subset, row, clips[0], view.clip[0], _mask(view.extras, clips.shape))
        alike[kind] = Preview((name,), steps, scene)
    return list(alike.values())


def _without_network(content: Any, dataset: Dataset) -> Any:
    if not isinstance(content, Mats):
        return content
    return replace(content, actionlet=moving_joints(dataset.anchor("joint"), "joint", dataset.layout))


def _steps(content: Any, params: Any, shape: torch.Size, dataset: Dataset) -> dict[str, str]:
    """Return a line for each augmentation of a view."""
    if content is None:
        return {"as stored": "no augmentation"}
    if isinstance(content, Mats):
        return {"MATS": f"{content.act} inside the actionlet, {content.non} outside; actionlet: {MEANING}"}
    op = content.op if isinstance(content, On) else content
    op = getattr(op, "op", op)  # one that changes with the epochs holds the one that is applied
    start = {f"made from {content.view}": "see there"} if isinstance(content, On) else {}
    if not isinstance(op, Chain):
        return start | {title(op): words(op, params, shape, dataset.layout)}
    pairs = enumerate(zip(op.ops, params, strict=True), 1)
    return start | {f"{n} {title(step)}": words(step, drawn, shape, dataset.layout) for n, (step, drawn) in pairs}


def _mask(extras: Mapping[str, Tensor], shape: torch.Size) -> np.ndarray | None:
    """Return the first clip's joints that an operator singles out, bool [M,T,V]."""
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
    there = [m for m in range(before.shape[3]) if before[..., m].any() or after[..., m].any()]
    panels = (_panel(before, dataset, there, "before"), _panel(after, dataset, there, "after"))
    if marked is not None:
        panels = (panels[0], replace(panels[1], marked=marked[there], means="joints of the mask"))
    label = dataset.labels(subset)[row]
    units = {"units": dataset.card["units"]}
    return Scene(dataset.ids(subset)[row], dataset.classes[label], units, dataset.layout, CLIP_RATE, panels)


def _panel(clip: Tensor, dataset: Dataset, there: list[int], caption: str) -> Panel:
    drawn = absent_as_nan(clip.numpy(), clip.numpy())[..., there]
    return make_panel("joint", drawn, drawn, dataset.layout, tuple(f"body {m + 1}" for m in there), caption)
