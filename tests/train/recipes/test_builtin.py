"""Recipes in one line: the built-in one they are closest to, and what is changed."""

import pytest

from skelpipe.train.recipes.reader import builtin_recipes, load_recipe, with_overrides
from skelpipe.train.recipes.schema import FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe

KINDS: list[type[Recipe]] = [PretrainRecipe, FinetuneRecipe, LinearRecipe]
NAMED = [(kind, name) for kind in KINDS for name in builtin_recipes(kind)]


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_a_built_in_recipe_is_named_and_unchanged(kind: type[Recipe], name: str) -> None:
    recipe = load_recipe(name, kind)
    text = repr(recipe)
    assert text.startswith(f"<{kind.__name__} {name}: ")
    assert f"{recipe.epochs} epochs in batches of {recipe.batch_size}, nothing changed>" in text


def test_changes_are_told_with_what_they_were() -> None:
    recipe = with_overrides(load_recipe("aimclr"), ["optimiser.lr=0.05", "views.query=[crop]"], epochs=7)
    text = repr(recipe)
    assert "aimclr: method aimclr (paper), encoder stgcn of width 16, 7 epochs" in text
    assert "epochs 7 (was 300)" in text
    assert "optimiser.lr 0.05 (was 0.1)" in text
    assert "views.query ['crop']" in text


def test_another_encoder_is_one_change() -> None:
    text = repr(with_overrides(load_recipe("aimclr"), ["encoder.name=bigru"]))
    assert text.endswith("changed: encoder.name bigru (was stgcn)>")


def test_many_changes_are_counted() -> None:
    settings = ["optimiser.lr=0.2", "optimiser.warmup=3", "head.dim=64", "head.hidden=64", "augment.crop=3"]
    text = repr(with_overrides(load_recipe("aimclr"), [*settings, "augment.shear=0.1"], epochs=3, batch_size=4))
    assert text.endswith("and 2 more>")


def test_a_half_built_recipe_says_so() -> None:
    assert repr(PretrainRecipe.__new__(PretrainRecipe)) == "<PretrainRecipe, not complete>"
