"""The views that the methods make of each batch, as sets to measure, and how the loader makes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skelpipe.augment.chain import chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.region import BLOCK
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.loader.recipe_views import RecipeViews
from skelpipe.loader.view_recipes import BatchInProgress, DrawnView, Marked, Mats, On, ViewRecipe, ViewRecipes
from skelpipe.loader.views_together import make_views
from skelpipe.skeleton import Layout

__all__ = ["ViewSet", "batched_views", "planned", "recipe_set", "view_sets"]


@dataclass(frozen=True, slots=True)
class ViewSet:
    """The views of a method's batch.

    `views` describes them in words, `recipe` is what the loader takes, and the number of frames must be a
    multiple of `multiple`.
    """

    name: str
    views: str
    recipe: ViewRecipes
    multiple: int = 1


def view_sets(layout: Layout, frames: int) -> list[ViewSet]:
    """Return the view sets that are measured.

    ActCLR's four are those of its released loader in the first epochs. SkeleMix's region has 7 to 11 blocks of
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


def recipe_set(recipe: RecipeViews, layout: Layout) -> ViewSet:
    """Return the views of a recipe, but for those that need a network to find an actionlet."""
    every = recipe.recipes(layout, "joint", lambda clips: clips)
    made: dict[str, Any] = {}
    for name, content in every.items():
        if isinstance(content, Marked):
            made[name] = content.augmentation
        elif not isinstance(content, Mats) and (not isinstance(content, On) or content.view in made):
            made[name] = content
    mixes = any(isinstance(content, On) for content in made.values())
    return ViewSet(recipe.where, ", ".join(made), made, BLOCK if mixes else 1)


def batched_views(
    recipes: Mapping[str, ViewRecipe], batches: Sequence[tuple[Tensor, Tensor]], epoch: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the views of each batch, clips [N,C,T,V,M] and their rows, as `Loader` makes them.

    Parameters are drawn once for all these batches, as the loader draws them for `DRAWN_AT_ONCE` batches.
    """
    index = torch.cat([rows for _, rows in batches])
    step = torch.cat([torch.full_like(rows, number) for number, (_, rows) in enumerate(batches)])
    shape = torch.Size((len(index), *batches[0][0].shape[1:]))
    plans = planned(recipes, epoch, index, shape, step)
    low = 0
    for clips, rows in batches:
        own = slice(low, low := low + len(rows))
        batch = BatchInProgress(clips, lambda x: x)
        with torch.no_grad():
            make_views(recipes, batch, {name: drawn.part(own) for name, drawn in plans.items()})
        yield {name: view.clip for name, view in batch.made.items()}


def planned(
    recipes: Mapping[str, ViewRecipe],
    epoch: int,
    index: Tensor,
    shape: torch.Size,
    step: Tensor | None = None,
) -> dict[str, DrawnView]:
    """Draw the parameters of every view for clips of `shape` [N,C,T,V,M], rows `index` of the subset."""
    plans = {}
    for slot, (name, recipe) in enumerate(recipes.items()):
        plans[name] = recipe.folded(recipe.sample(Draws(0, epoch, index, slot, step), shape), shape)
    return plans
