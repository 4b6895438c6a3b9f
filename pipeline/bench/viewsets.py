"""The views of a batch as the methods have them, made by the batched operators or by the plain ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.region import BLOCK
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.bench import plain
from skelpipe.bench.plain_draws import draw, draw_mix
from skelpipe.loader.drawn import DrawnView
from skelpipe.loader.view_recipes import BatchInProgress, On, ViewRecipe, ViewRecipes
from skelpipe.skeleton import Layout

__all__ = ["ViewSet", "batched_views", "plain_views", "planned", "view_sets"]


@dataclass(frozen=True, slots=True)
class ViewSet:
    """The views that a method's batch has: `recipe` is a loader's; `multiple` is what the frames must be of."""

    name: str
    views: str
    recipe: ViewRecipes
    multiple: int = 1


def view_sets(layout: Layout, frames: int) -> list[ViewSet]:
    """Return the view sets that are measured.

    ActCLR's four are those of its released loader in its first epochs. SkeleMix's region has 7 to 11 blocks of
    four frames, fewer in clips shorter than that.
    """
    normal = chain("normal")
    pair = {"query": normal, "key": normal}
    extreme, strong = chain("aimclr-extreme", layout=layout), chain("msmclr-strong", layout=layout)
    act, non = (
        chain(f"actclr-{part}", layout=layout, variant="released") for part in ("actionlet", "non-actionlet")
    )
    most, parts = frames // BLOCK, len(layout.parts)
    mixed = On("query", SkeleMix(layout, (min(2, parts), min(3, parts)), (min(7, most), min(11, most))))
    return [
        ViewSet("normal", "2 views", pair),
        ViewSet("aimclr", "2 normal, 1 extreme", {**pair, "extreme": extreme}),
        ViewSet("skelemix", "2 normal, 1 mixed", {**pair, "mixed": mixed}, BLOCK),
        ViewSet("actclr", "actionlet, non-actionlet, 2 normal", {"act": act, "non": non, **pair}),
        ViewSet("msmclr-strong", "1 view", {"strong": strong}),
    ]


def batched_views(
    made: Mapping[str, ViewRecipe], batches: Sequence[tuple[Tensor, Tensor]], epoch: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the views of each batch, clips [N,C,T,V,M] and their rows, as `Loader` makes them of clips read.

    What is done with all these batches is drawn together, as it is there for `DRAWN_AT_ONCE` batches.
    """
    index = torch.cat([rows for _, rows in batches])
    step = torch.cat([torch.full_like(rows, number) for number, (_, rows) in enumerate(batches)])
    shape = torch.Size((len(index), *batches[0][0].shape[1:]))
    plans = planned(made, epoch, index, shape, step)
    low = 0
    for clips, rows in batches:
        own = slice(low, low := low + len(rows))
        scene = BatchInProgress(clips, lambda x: x)
        with torch.no_grad():
            for name, entry in made.items():
                scene.made[name] = entry.make(scene, plans[name].part(own))
        yield {name: view.clip for name, view in scene.made.items()}


def planned(
    made: Mapping[str, ViewRecipe], epoch: int, index: Tensor, shape: torch.Size, step: Tensor | None = None
) -> dict[str, DrawnView]:
    """Return what every view of clips of `shape` [N,C,T,V,M], rows `index`, is made by."""
    plans = {}
    for slot, (name, entry) in enumerate(made.items()):
        plans[name] = entry.plan(entry.sample(Draws(0, epoch, index, slot, step), shape), shape)
    return plans


def plain_views(recipe: ViewRecipes, clips: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw and make the same views one clip at a time, and stack them."""
    made: dict[str, np.ndarray] = {}
    for name, entry in recipe.items():
        if isinstance(entry, Chain):
            made[name] = np.stack([_augmented(entry, clip, rng) for clip in clips])
        elif isinstance(entry, On) and isinstance(entry.op, SkeleMix):
            made[name] = _mixed(entry.op, made[entry.view], rng)
        else:
            raise TypeError(f"the view {name!r} has no plain counterpart")
    return made


def _augmented(ops: Chain, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    for op in ops.ops:
        x = plain.apply(op, x, draw(op, rng, x.shape))
    return x


def _mixed(op: SkeleMix, clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mix each clip with the one a shift ahead; region and shift are one a batch, as released."""
    count = len(clips)
    region = draw_mix(op, rng, clips.shape[1:])
    shift = int(rng.integers(1, max(count - 1, 2)))
    return np.stack([plain.mix(op, clips[n], clips[(n + shift) % count], region) for n in range(count)])
