"""How fast views are made of clips in memory, against a reference such as copying the clips."""

import warnings
from collections.abc import Callable
from functools import partial
from itertools import chain, count, cycle, islice
from typing import Final, TypeAlias

import torch

from skelpipe.bench.timing import BenchRow, Way, compare
from skelpipe.bench.view_sets import ViewSet, batched_views, planned, recipe_set, view_sets
from skelpipe.bench.workload import Workload
from skelpipe.loader.read_ahead import DRAWN_AT_ONCE
from skelpipe.loader.recipe_views import RecipeViews
from skelpipe.loader.view_recipes import BatchInProgress, ViewRecipes, view_recipes
from skelpipe.loader.views_together import make_views
from skelpipe.memory import keep_freed_memory

__all__ = ["Reference", "augment_rows", "bare", "copies", "graph_rows"]

IN_MEMORY: Final = 16  # batches taken in turn: more than the processor's cache holds, as in training

# From a workload and a view set to what the reference is, in words, and the reference itself.
Reference: TypeAlias = Callable[[Workload, ViewSet], tuple[str, Way]]


def copies(workload: Workload, views: ViewSet) -> tuple[str, Way]:
    """Return the reference that copies each batch in memory once per view, which writes as many bytes."""
    batches = cycle(workload.batches(IN_MEMORY, views.multiple))

    def copy() -> int:
        clips, _ = next(batches)
        kept = [clips.clone() for _ in views.recipe]
        return len(kept[0])

    return "copying the clips once per view", copy


def augment_rows(
    workload: Workload, reference: Reference = copies, recipe: RecipeViews | None = None
) -> list[Callable[[], BenchRow]]:
    """Return the measurements, one per view set or the one of a recipe, each against the reference."""
    layout = workload.dataset.layout
    sets = view_sets(layout, workload.dataset.frames) if recipe is None else [recipe_set(recipe, layout)]
    return [partial(_batched, workload, views, reference) for views in sets]


def graph_rows(workload: Workload) -> list[Callable[[], BenchRow | None]]:
    """Return the measurement, on a CUDA device, of what a CUDA graph saves; it returns None if capturing fails.

    A failed capture may leave the device in an unknown state: measure this last.
    """
    if workload.device.type != "cuda":
        return []
    sets = view_sets(workload.dataset.layout, workload.dataset.frames)
    return [partial(_captured, workload, next(views for views in sets if views.name == "aimclr"))]


def bare(workload: Workload, recipe: ViewRecipes, multiple: int = 1) -> Way:
    """Return a way to make the recipe's views of batches that are already in the device's memory.

    As in a loader, parameters are drawn for `DRAWN_AT_ONCE` batches at the first of them, and freed memory is
    kept for the next batch.
    """
    if workload.device.type == "cpu":
        keep_freed_memory()
    recipes, batches = view_recipes(recipe), cycle(workload.batches(IN_MEMORY, multiple))
    blocks = (batched_views(recipes, list(islice(batches, DRAWN_AT_ONCE)), epoch) for epoch in count())
    views = chain.from_iterable(blocks)
    return lambda: len(next(iter(next(views).values())))


def _batched(workload: Workload, views: ViewSet, reference: Reference) -> BenchRow:
    one_batch = bare(workload, views.recipe, views.multiple)

    def one_block() -> int:
        return sum(one_batch() for _ in range(DRAWN_AT_ONCE))  # whole blocks, so that all draws are counted

    against, other = reference(workload, views)
    rates = compare(one_block, other, workload.seconds, workload.device)
    frames = workload.dataset.frames // views.multiple * views.multiple
    drawn = f"drawn for {DRAWN_AT_ONCE} batches at once"
    what = f"augment {views.name} ({views.views}; {frames} frames; {drawn})"
    return BenchRow(what, against, rates, workload.batch)


def _captured(workload: Workload, views: ViewSet) -> BenchRow | None:
    """Apply parameters drawn before, replayed as a CUDA graph, against the same launched one by one."""
    (clips, index), *_ = workload.batches(1, views.multiple)
    recipes = view_recipes(views.recipe)
    plans = planned(recipes, 0, index, clips.shape)

    def make() -> int:
        batch = BatchInProgress(clips, lambda x: x)
        with torch.no_grad():
            make_views(recipes, batch, plans)
        return len(clips)

    side = torch.cuda.Stream(workload.device)
    side.wait_stream(torch.cuda.current_stream(workload.device))
    with torch.cuda.stream(side):  # once before: pools and caches must exist when the capture begins
        make()
    torch.cuda.current_stream(workload.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            make()
    except RuntimeError as error:
        warnings.warn(f"{views.name} could not be captured as a CUDA graph: {error}", stacklevel=2)
        return None

    def replay() -> int:
        graph.replay()
        return len(clips)

    what = f"apply {views.name} as a CUDA graph ({views.views}; {clips.shape[2]} frames)"
    rates = compare(replay, make, workload.seconds, workload.device)
    return BenchRow(what, "the same, launched one by one", rates, workload.batch)
