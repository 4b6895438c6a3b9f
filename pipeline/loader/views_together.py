"""The views of a batch, where on a CPU those that begin at its clips are begun together.

A batch does not fit in the cache: if each view went over all clips by itself, much time would go into reading them
again. Results are those of the views one by one, bit-identical.
"""

from collections.abc import Mapping

from skelpipe.augment.clip_program import MOST, Program, run_together
from skelpipe.loader.view_recipes import Augmented, BatchInProgress, DrawnView, ViewRecipe

__all__ = ["make_views"]


def make_views(recipes: Mapping[str, ViewRecipe], batch: BatchInProgress, drawn: Mapping[str, DrawnView]) -> None:
    """Make all views that the batch lacks; `drawn` has what was drawn for its clips."""
    begun = _begun(recipes, batch, drawn)
    for name, recipe in recipes.items():
        if name not in batch.made:
            batch.made[name] = recipe.make(batch, begun.get(name, drawn[name]))


def _begun(
    recipes: Mapping[str, ViewRecipe], batch: BatchInProgress, drawn: Mapping[str, DrawnView]
) -> dict[str, DrawnView]:
    """Return what was drawn for the views that are begun here, with their beginnings."""
    programs: dict[str, Program] = {}
    for name, recipe in recipes.items():
        if name not in batch.made and isinstance(recipe, Augmented) and len(programs) < MOST:
            program = drawn[name].program(recipe.augmentation, batch.clips)
            if program is not None:
                programs[name] = program
    if len(programs) < 2:
        return {}
    first = drawn[next(iter(programs))].rows.start or 0
    begun = zip(programs, run_together(list(programs.values()), batch.clips, first), strict=True)
    return {name: drawn[name]._replace(begun=clips) for name, clips in begun}
