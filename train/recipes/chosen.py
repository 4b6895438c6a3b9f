"""The recipe that a command line asks for, checked before torch is imported; faults are UsageErrors."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from skelpipe.errors import UsageError
from skelpipe.models.settings.tables import METHOD_SETTINGS
from skelpipe.plugins import discover
from skelpipe.train.recipes.asked import OF_PLUGIN, recipe_names
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe

__all__ = ["check_finetuning", "check_linear", "check_network", "check_pretraining", "check_rows", "choose_recipe"]

R = TypeVar("R", bound=Recipe)
OVERRIDES = ("epochs", "batch_size", "lr", "balanced")  # options that override a recipe's values


def choose_recipe(method: str | None, name: str | None) -> PretrainRecipe:
    """Return the recipe that --method and --recipe ask for; it defaults to the method's own."""
    if method is not None and method not in METHOD_SETTINGS:
        discover()
    if method is not None and method not in METHOD_SETTINGS:
        raise UsageError(f"there is no method {method!r}; known: {', '.join(METHOD_SETTINGS)}; {OF_PLUGIN}")
    recipe = load_recipe(name or method or "skeletonclr", PretrainRecipe)
    if method is not None and recipe.method != method:
        raise UsageError(f"recipe {name} is for {recipe.method}, not for --method {method}")
    return recipe


def check_pretraining(given: Mapping[str, Any]) -> None:
    """Check --method, --recipe, --set and the options that override a recipe of pre-training."""
    _check_method(_overridden(choose_recipe(given["method"], given["recipe"]), given))


def check_finetuning(given: Mapping[str, Any]) -> None:
    """Check the same of a training with labels, and --labels."""
    if not 0 < given["labels"] <= 1:
        raise UsageError(f"--labels {given['labels']}: a share of the labels above 0 and up to 1 is expected")
    scratch = given["checkpoint"] is None
    name = given["recipe"] or (
        "supervised" if scratch else "finetune" if given["labels"] == 1 else "finetune-semi"
    )
    recipe = _overridden(load_recipe(name, FinetuneRecipe), given)
    if scratch and recipe.encoder is None:
        raise UsageError(
            f"recipe {name} describes no network to train from scratch: give --checkpoint, or a recipe with an "
            "encoder, such as --recipe supervised"
        )


def check_linear(given: Mapping[str, Any]) -> None:
    """Check the same of a linear evaluation. Without --recipe its method decides: one of the recipes must do."""
    _check_any([given["recipe"]] if given["recipe"] else recipe_names("linear evaluation"), given)


def check_network(given: Mapping[str, Any]) -> None:
    """Check --network and --network-set of a random network, where no checkpoint brings the recipe."""
    if given["checkpoint"] is None:
        recipe = load_recipe(given["network"] or "skeletonclr", PretrainRecipe)
        settings = given["network_settings"]
        _check_method(with_overrides(recipe, settings, by="--network-set"))


def check_rows(recipes: Iterable[str], settings: tuple[str, ...]) -> None:
    """Check --set of the rows of a table, whose recipes are these: one of them must have the keys."""
    refused: list[UsageError] = []
    for name in recipes:
        kind: type[Any] = FinetuneRecipe if name in recipe_names("finetuning") else PretrainRecipe
        try:
            with_overrides(load_recipe(name, kind), settings)
            return
        except UsageError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _check_any(names: Iterable[str], given: Mapping[str, Any]) -> None:
    refused: list[UsageError] = []
    for name in sorted(names, key=lambda each: each != "linear"):
        try:
            _overridden(load_recipe(name, LinearRecipe), given)
            return
        except UsageError as error:
            refused.append(error)
    raise refused[0]


def _overridden(recipe: R, given: Mapping[str, Any]) -> R:
    options = {name: given[name] for name in OVERRIDES if given.get(name) or name == "lr"}  # only lr may be 0
    return with_overrides(recipe, given["settings"], **options)


def _check_method(recipe: PretrainRecipe) -> None:
    """Refuse settings that have no effect beside the others, as building the method does."""
    check = getattr(recipe.settings, "check", None)
    if callable(check):
        check(recipe.variant)
