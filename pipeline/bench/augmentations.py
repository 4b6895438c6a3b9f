"""How fast views are made of clips in memory, against the same one clip at a time in numpy."""

import warnings
from collections.abc import Callable
from functools import partial
from itertools import chain, count, cycle, islice
from typing import Final

import numpy as np
import torch

from skelpipe.bench.setting import Setting
from skelpipe.bench.timing import Row, Way, compare
from skelpipe.bench.viewsets import ViewSet, batched_views, plain_views, planned, view_sets
from skelpipe.loader.read_ahead import DRAWN_AT_ONCE
from skelpipe.loader.view_recipes import BatchInProgress, ViewRecipes, view_recipes
from skelpipe.memory import keep_freed_memory

__all__ = ["augment_rows", "bare", "graph_rows"]

IN_MEMORY: Final = 16  # batches taken in turn: few would stay in the processor's cache, as none does in training
PLAIN: Final = 16  # clips of a plain run, which is slow


def augment_rows(setting: Setting) -> list[Callable[[], Row]]:
    """Return the measurements, one a view set."""
    return [partial(_batched, setting, each) for each in view_sets(setting.dataset.layout, setting.dataset.frames)]


def graph_rows(setting: Setting) -> list[Callable[[], Row | None]]:
    """Return the measurement, on a CUDA device, of what a CUDA graph spares; None comes of one that fails.

    A failed capture may leave the device in disorder: measure this last.
    """
    if setting.device.type != "cuda":
        return []
    sets = view_sets(setting.dataset.layout, setting.dataset.frames)
    return [partial(_captured, setting, next(each for each in sets if each.name == "aimclr"))]


def bare(setting: Setting, recipe: ViewRecipes, multiple: int = 1) -> Way:
    """Return a way to make the recipe's views of a batch that is in the device's memory already.

    As under a loader, parameters are drawn for `DRAWN_AT_ONCE` batches, by the first of them, and freed memory is
    kept for the next batch.
    """
    if setting.device.type == "cpu":
        keep_freed_memory()
    made, batches = view_recipes(recipe), cycle(setting.batches(IN_MEMORY, multiple))
    blocks = (batched_views(made, list(islice(batches, DRAWN_AT_ONCE)), epoch) for epoch in count())
    views = chain.from_iterable(blocks)
    return lambda: len(next(iter(next(views).values())))


def _batched(setting: Setting, each: ViewSet) -> Row:
    (clips, _), *_ = setting.batches(1, each.multiple)
    few, rng = clips[:PLAIN].cpu().numpy(), np.random.default_rng(0)

    def one_by_one() -> int:
        plain_views(each.recipe, few, rng)
        return len(few)

    one_batch = bare(setting, each.recipe, each.multiple)

    def one_block() -> int:
        return sum(one_batch() for _ in range(DRAWN_AT_ONCE))  # whole blocks, so that all draws are counted

    rates = compare(one_block, one_by_one, setting.seconds, setting.device)
    drawn = f"drawn for {DRAWN_AT_ONCE} batches at once"
    what = f"augment {each.name} ({each.views}; {clips.shape[2]} frames; {drawn})"
    return Row(what, "numpy, one clip at a time, one core", *rates, setting.batch)


def _captured(setting: Setting, each: ViewSet) -> Row | None:
    """Apply parameters drawn before, replayed as a CUDA graph, against the same launched one by one."""
    (clips, index), *_ = setting.batches(1, each.multiple)
    made = view_recipes(each.recipe)
    plans = planned(made, 0, index, clips.shape)

    def make() -> int:
        scene = BatchInProgress(clips, lambda x: x)
        with torch.no_grad():
            for name, entry in made.items():
                scene.made[name] = entry.make(scene, plans[name])
        return len(clips)

    side = torch.cuda.Stream(setting.device)
    side.wait_stream(torch.cuda.current_stream(setting.device))
    with torch.cuda.stream(side):  # once before: pools and caches must be there when the capture begins
        make()
    torch.cuda.current_stream(setting.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            make()
    except RuntimeError as error:
        warnings.warn(f"{each.name} could not be captured as a CUDA graph: {error}", stacklevel=2)
        return None

    def replay() -> int:
        graph.replay()
        return len(clips)

    what = f"apply {each.name} as a CUDA graph ({each.views}; {clips.shape[2]} frames)"
    rates = compare(replay, make, setting.seconds, setting.device)
    return Row(what, "the same, launched one by one", *rates, setting.batch)
