"""Recipes from before a setting existed: they still mean what they meant."""

import pytest
import yaml

from skelpipe.errors import UsageError
from skelpipe.models.build import METHODS, build_method
from skelpipe.skeleton import layout
from skelpipe.train.recipes.recipe import load_recipe, parse_recipe, with_overrides


def test_skeattnclr_without_predictors_follows_the_variant() -> None:
    recipe = with_overrides(load_recipe("skeattnclr"), ["skeattnclr.predictors=variant"])
    content = yaml.safe_load(recipe.to_yaml())
    del content["skeattnclr"]["predictors"]
    assert parse_recipe(yaml.safe_dump(content), "old") == recipe
    small = {"encoder": {"name": "stgcn", "width": 2, "out_channels": 8}, "queue": 4}
    for variant, predictors in (("paper", 0), ("released", 3)):
        built = build_method({**content, **small, "variant": variant}, layout("kinect-v2-25"))
        assert len(built.predictors) == predictors
    changed = with_overrides(parse_recipe(yaml.safe_dump(content), "old"), ["skeattnclr.predictors=three"])
    assert changed["skeattnclr.predictors"] == "three"
    del content["skeattnclr"]["mu"]
    with pytest.raises(UsageError, match=r"missing: skeattnclr\.mu"):
        parse_recipe(yaml.safe_dump(content), "old")


@pytest.mark.parametrize("method", METHODS)
def test_what_was_so_is_a_setting_now(method: str) -> None:
    kind = METHODS[method]
    for key, value in kind.earlier.items():
        assert kind.settings[key].check(key, value, "here") == value
