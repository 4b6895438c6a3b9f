"""Views that are begun together are, to the bit, those that are made one by one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numba.typed import List
from torch import Tensor

from skelpipe.augment import clip_program
from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.shear import Shear
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.dataset.mapped_clips import MappedClips
from skelpipe.loader import views_together
from skelpipe.loader.view_recipes import BatchInProgress, DrawnView, On, view_recipes
from skelpipe.loader.views_together import make_views
from skelpipe.skeleton import layout
from skelpipe.views import derive

KINECT = layout("kinect-v2-25")
FIRST = 17  # clips of a first batch
NORMAL, EXTREME = chain("normal"), chain("aimclr-extreme", layout=KINECT)
SIX = {f"view{i}": (NORMAL, EXTREME)[i % 2] for i in range(6)}
RECIPES: dict[str, Mapping[str, Any]] = {
    "two": {"query": NORMAL, "key": NORMAL},
    "two and the clips": {"query": NORMAL, "plain": None, "key": NORMAL},
    "three": {"query": NORMAL, "key": NORMAL, "extreme": EXTREME},
    "mixed": {"query": NORMAL, "mixed": On("query", SkeleMix(KINECT, (2, 3), (2, 3))), "key": NORMAL},
    "more than run together": SIX,
    "some that end otherwise": {"query": Chain([Shear(), GaussianBlur(), Shear()]), "key": NORMAL},
    "one": {"query": EXTREME, "plain": None},
}


def clips(count: int, frames: int = 16) -> Tensor:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(count, 3, frames, 25, 2)).astype(np.float32))
    x[::3, ..., 1] = 0
    return x


def mapped(x: Tensor) -> MappedClips:
    """The same clips, every other one in another piece, in reverse order."""
    flat = x.reshape(len(x), -1).numpy()
    pieces = List([np.ascontiguousarray(flat[::2][::-1]).ravel(), np.ascontiguousarray(flat[1::2][::-1]).ravel()])
    piece = np.arange(len(x)) % 2
    start = np.array([len(each) // flat.shape[1] for each in pieces])[piece] - 1 - np.arange(len(x)) // 2
    return MappedClips(pieces, piece, start * flat.shape[1], x.shape)


def planned(recipe: Mapping[str, Any], shape: torch.Size) -> dict[str, DrawnView]:
    plans, index = {}, torch.arange(shape[0])
    for slot, (name, each) in enumerate(view_recipes(recipe).items()):
        draws = Draws(3, 1, index, slot, (index >= FIRST).long())
        plans[name] = each.folded(each.sample(draws, shape), shape)
    return plans


@pytest.mark.parametrize("kind", ["memory", "mapped"])
@pytest.mark.parametrize("name", RECIPES)
def test_views_are_those_of_one_by_one(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the second of two batches that were drawn together."""
    recipe, x = view_recipes(RECIPES[name]), clips(40 - FIRST)
    if kind == "mapped" and "plain" in recipe:
        pytest.skip("clips as they are need memory")
    plans = planned(RECIPES[name], torch.Size((40, *x.shape[1:])))
    parts = {view: plan.part(slice(FIRST, 40)) for view, plan in plans.items()}
    runs: list[int] = []
    whole = clip_program.run_together

    def counted(programs: Any, *given: Any) -> list[Tensor]:
        runs.append(len(programs))
        return whole(programs, *given)

    monkeypatch.setattr(views_together, "run_together", counted)
    together = BatchInProgress(mapped(x) if kind == "mapped" else x, lambda y: derive(y, "bone", KINECT))
    with torch.no_grad():
        make_views(recipe, together, parts)
        one_by_one = BatchInProgress(x, together.derive)
        for view, each in recipe.items():
            one_by_one.made[view] = each.make(one_by_one, parts[view])
    assert list(together.made) == list(one_by_one.made)
    for view, made in one_by_one.made.items():
        assert torch.equal(together.made[view].clip, made.clip)
        assert together.made[view].extras.keys() == made.extras.keys()
    begun = min(sum(each.augmentation is not None for each in recipe.values() if hasattr(each, "augmentation")), 4)
    assert runs == ([begun] if begun > 1 else [])


def test_views_that_are_made_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    x, recipe = clips(5), view_recipes(RECIPES["three"])
    parts = planned(RECIPES["three"], x.shape)
    batch = BatchInProgress(x, lambda y: y)
    batch.made["key"] = before = recipe["key"].make(batch, parts["key"])
    make_views(recipe, batch, parts)
    assert batch.made["key"] is before
    assert set(batch.made) == set(recipe)


def test_clips_that_do_not_fit_are_refused() -> None:
    x = clips(5)
    parts = planned(RECIPES["two"], x.shape)
    with pytest.raises(ValueError, match="does not fit"):
        make_views(view_recipes(RECIPES["two"]), BatchInProgress(clips(6), lambda y: y), parts)
