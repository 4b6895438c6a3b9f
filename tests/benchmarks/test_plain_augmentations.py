"""The plain numpy augmentations do what the batched ones do: clips, draws, mixed regions."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy
import torch

from skelpipe.augment.draws import Draws
from skelpipe.augment.noise_pool import window
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.bench.view_sets import batched_views, view_sets
from skelpipe.loader.view_recipes import On, view_recipes
from skelpipe.skeleton import layout

sys.path.append(str(Path(__file__).parent))  # as for the benchmarks run as scripts
import plain_augmentations as plain
import plain_draws

LAYOUTS = ("kinect-v2-25", "kinect-v1-20", "coco-17")
KINECT = layout("kinect-v2-25")
SETS = {each.name: each for each in view_sets(KINECT, 48)}


def operators(of: Any = KINECT) -> list[Any]:
    """Every operator of every chain that is measured."""
    return [op for each in view_sets(of, 16) for chain in each.recipe.values() for op in getattr(chain, "ops", ())]


def clips(count: int, of: Any = KINECT, frames: int = 16) -> torch.Tensor:
    """Clips [count,3,frames,V,2], the second body absent in every other."""
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(count, 3, frames, len(of), 2)).astype(np.float32))
    x[::2, ..., 1] = 0
    return x


def of_clip(op: Any, params: dict[str, torch.Tensor], row: int, shape: torch.Size) -> dict[str, Any]:
    """One clip's parameters as the plain operator names them: the window of a pool becomes the numbers in it."""
    drawn = {key: value[row].numpy() for key, value in params.items()}
    name, start = type(op).__name__, params.get("start", torch.empty(0))[row : row + 1]
    if name == "GaussianNoise":
        drawn["field"] = window("gaussian", start, int(np.prod(shape))).view(shape).numpy()
    elif name == "JointNoise":
        box = (shape[0], shape[1], len(drawn["joints"]), shape[3])
        drawn["unit"] = window("uniform", start, int(np.prod(box))).view(box).numpy()
    return drawn


@pytest.mark.parametrize("name", LAYOUTS)
def test_plain_operators_make_the_clips_that_batched_ones_make(name: str) -> None:
    """With the parameters drawn by the batched operators; in float64 one way, in float32 the other."""
    x = clips(40, layout(name))
    for slot, op in enumerate(operators(layout(name))):
        params = op.sample(Draws(4, 1, torch.arange(40), slot), x.shape)
        batched, before = op.apply(x, params).numpy(), x.clone()
        for row in range(40):
            drawn = of_clip(op, params, row, x.shape[1:])
            wide = plain.apply(op, x[row].double().numpy(), drawn)
            np.testing.assert_allclose(batched[row], wide, rtol=1e-4, atol=2e-5, err_msg=str(op))
            assert plain.apply(op, x[row].numpy(), drawn).dtype == np.float32
        assert torch.equal(x, before)


def test_batched_operators_make_the_clips_that_plain_ones_make() -> None:
    """The other way round: with the parameters drawn by the plain way (noise apart, which has a pool)."""
    x, rng = clips(40), np.random.default_rng(3)
    for op in operators():
        drawn = [plain_draws.draw(op, rng, tuple(x.shape[1:])) for _ in range(40)]
        if {"field", "unit"} & set(drawn[0]):
            continue
        params = {key: torch.from_numpy(np.stack([one[key] for one in drawn])) for key in drawn[0]}
        wide = {key: t.float() if t.is_floating_point() else t for key, t in params.items()}
        expected = np.stack([plain.apply(op, clip.numpy(), one) for clip, one in zip(x, drawn, strict=True)])
        np.testing.assert_allclose(op.apply(x, wide), expected, rtol=1e-4, atol=2e-5, err_msg=str(op))


def test_both_draw_from_the_same_distributions() -> None:
    """Two-sample Kolmogorov-Smirnov for every column of every parameter; the noise's numbers against N and U."""
    count, rng, shape = 2000, np.random.default_rng(9), (3, 16, 25, 2)
    for slot, op in enumerate(operators()):
        ours = op.sample(Draws(11, 0, torch.arange(count), slot), (count, *shape))
        drawn = [plain_draws.draw(op, rng, shape) for _ in range(count)]
        for key in set(ours) & set(drawn[0]):
            mine = ours[key].reshape(count, -1).numpy().astype(float)
            other = np.stack([np.ravel(one[key]) for one in drawn]).astype(float)
            assert mine.shape == other.shape, (op, key)
            for column in range(mine.shape[1]):
                # Rounded, since float32 and float64 round the same constants of a matrix differently.
                pair = mine[:, column].round(6), other[:, column].round(6)
                assert scipy.stats.ks_2samp(*pair, method="asymp").pvalue > 1e-5, (op, key, column)
        for key, law in (("field", "norm"), ("unit", "uniform")):
            if key in drawn[0]:
                numbers = np.concatenate([np.ravel(one[key])[:20] for one in drawn if one[key] is not None])
                assert scipy.stats.kstest(numbers, law).pvalue > 1e-5, op


@pytest.mark.parametrize("name", LAYOUTS)
def test_plain_mixing_is_skelemix(name: str) -> None:
    of = layout(name)
    x, op = clips(12, of, 48), SkeleMix(of, per="sample")
    params = op.sample(Draws(2, 0, torch.arange(12)), x.shape)
    mixed = op.mix(x, params)
    for row in range(12):
        region = {key: params[key][row].numpy() for key in ("parts", "first", "length")}
        expected = plain.mix(op, x[row].numpy(), x[mixed.donor[row]].numpy(), region)
        assert np.array_equal(mixed.clip[row], expected)
    rng = np.random.default_rng(5)
    regions = [plain_draws.draw_mix(op, rng, (3, 48, len(of), 2)) for _ in range(2000)]
    assert {r["parts"].sum() for r in regions} == {2, 3}
    assert {r["length"] for r in regions} == set(range(7, 12))
    for length in range(7, 12):
        assert {r["first"] for r in regions if r["length"] == length} == set(range(12 - length + 1))
    assert np.stack([r["parts"] for r in regions]).any(0).all()


@pytest.mark.parametrize("name", SETS)
def test_plain_and_batched_views_have_the_same_names_and_shapes(name: str) -> None:
    recipe, x = SETS[name].recipe, clips(10, frames=48)
    (batched,) = batched_views(view_recipes(recipe), [(x, torch.arange(10))], epoch=3)
    one_by_one = plain.plain_views(recipe, x.numpy(), np.random.default_rng(0))
    assert list(batched) == list(one_by_one) == list(recipe)
    for view, clip in batched.items():
        assert clip.shape == one_by_one[view].shape == x.shape
        assert one_by_one[view].dtype == np.float32
        moved = np.abs(one_by_one[view] - x.numpy()).max((1, 2, 3, 4))
        assert (moved > 1e-3).sum() >= 9  # nearly every clip changes
    for view, content in recipe.items():
        if isinstance(content, On):  # mixed: every number is from the query's own clip or from its donor
            shifts = [np.roll(one_by_one[content.view], -n, 0) for n in range(1, 9)]
            mixed, query = one_by_one[view], one_by_one[content.view]
            assert any(((mixed == query) | (mixed == donor)).all() for donor in shifts)
            assert not np.array_equal(mixed, query)


def test_every_operator_that_is_measured_has_a_plain_one() -> None:
    assert {type(op) for op in operators()} == set(plain.OPERATORS) == set(plain_draws.DRAWS)
    with pytest.raises(TypeError, match="'odd'"):
        plain.plain_views({"odd": None}, clips(2).numpy(), np.random.default_rng(0))
