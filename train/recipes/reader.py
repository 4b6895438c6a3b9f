"""Reading recipes: built in or from a YAML file, with values overridden, compared, and written back."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, TypeVar, overload

import yaml

from skelpipe.errors import UsageError
from skelpipe.models.recipe import recipe_of
from skelpipe.models.settings.tables import BACKBONE_SETTINGS, backbone_settings
from skelpipe.plugins import RECIPES, discover, loaded, origins, require
from skelpipe.settings import checked, flat, is_section
from skelpipe.train.recipes import builtin
from skelpipe.train.recipes.asked import check_recipe, parsed_settings, recipe_names
from skelpipe.train.recipes.schema import FinetuneRecipe, LearningRates, LinearRecipe, PretrainRecipe, Recipe
from skelpipe.untrusted import described
from skelpipe.yaml_reader import parse_yaml, read_yaml

__all__ = [
    "builtin_recipes",
    "differences",
    "load_recipe",
    "parse_recipe",
    "recipe_from",
    "reported_name",
    "to_yaml",
    "with_overrides",
]

R = TypeVar("R", bound=Recipe)

REPORTED, VIEWS = "reported", "views"
BASE = "chain"  # as `augment.op_lists` has it
OPTIONS = {"lr": "optimiser.lr"}  # the keys of options that are not called like them


def builtin_recipes(kind: type[Recipe] = PretrainRecipe) -> list[str]:
    """Return the names of the recipes of a kind that come with the package."""
    return recipe_names(kind.kind)


@overload
def load_recipe(name: str) -> PretrainRecipe: ...
@overload
def load_recipe(name: str, kind: type[R]) -> R: ...
def load_recipe(name: str, kind: Any = PretrainRecipe) -> Any:
    """Return a built-in recipe by name, or one by the path of its YAML file; UsageError where it is wrong."""
    where = f"recipe {name}"
    if name in builtin_recipes(kind):
        return _builtin(name, kind)
    if kind is PretrainRecipe and name in RECIPES:
        return _recipe_of(RECIPES[name], where, kind)
    check_recipe(name, kind.kind, more=RECIPES if kind is PretrainRecipe else ())
    return _recipe_of(read_yaml(name), where, kind)


@cache  # a comparison with the papers' tables asks for dozens; recipes are frozen
def _builtin(name: str, kind: type[Any]) -> Any:
    where = f"recipe {name}"
    return _recipe_of(parse_yaml(builtin.text_of(name), where), where, kind)


@overload
def parse_recipe(text: str, name: str) -> PretrainRecipe: ...
@overload
def parse_recipe(text: str, name: str, kind: type[R]) -> R: ...
def parse_recipe(text: str, name: str, kind: type[Any] = PretrainRecipe) -> Any:
    """Return the recipe in YAML text; messages name it by `name`."""
    where = f"recipe {name}"
    return _recipe_of(parse_yaml(text, where), where, kind)


def _recipe_of(content: Any, where: str, kind: type[Any]) -> Any:
    if not is_section(content):
        raise UsageError(f"{where}: expected `key: value` lines, found {described(content)}")
    return recipe_from(content, where, kind)


def recipe_from(content: Mapping[Any, Any], where: str, kind: type[R]) -> R:
    """Return the recipe that a mapping of sections describes; UsageError where a value is wrong or unknown.

    Runs of earlier versions hold figures under `reported`, which are looked up in the papers' tables alone.
    """
    given = dict(content)
    if REPORTED in {each.name for each in fields(kind)}:
        given[REPORTED] = reported_name(given.get(REPORTED), where)
    if issubclass(kind, PretrainRecipe):
        pretrain = recipe_of(kind, given, where)
        pretrain.optimiser.check(where)
        return pretrain
    require(given.get("plugins", ()), where)
    base = kind()
    if isinstance(base, FinetuneRecipe) and "encoder" in given:
        base = kind(encoder=backbone_settings(given["encoder"], where))  # type: ignore[call-arg]
    recipe = checked(kind, given, where, base=base)
    recipe.optimiser.check(where)
    if not isinstance(recipe, FinetuneRecipe):
        return recipe
    if not recipe.views and not loaded():
        return recipe
    from skelpipe.augment.op_lists import names_in  # the table of operators is read for views alone

    named = names_in(recipe.views, recipe.operators(where))
    named += [("backbone", recipe.encoder.name)] if recipe.encoder is not None else []
    return replace(recipe, plugins=origins(named))


def reported_name(name: Any, where: str) -> str:
    """Return a recipe's name in the papers' tables, or nothing where it has none."""
    if name is None or isinstance(name, Mapping):
        return ""
    if not isinstance(name, str):
        raise UsageError(
            f"{where}: {REPORTED} must be the recipe's name in the papers' tables, not {described(name)}"
        )
    return name


def with_overrides(recipe: R, settings: Iterable[str] = (), /, by: str = "--set", **options: Any) -> R:
    """Return the recipe with `key=value` texts applied, then the keyword values that are not None.

    Keywords are keys without section, or the lr: `epochs=30, batch_size=64, lr=0.01`. Another encoder, optimiser
    or schedule comes with its own settings, at their defaults where they are not given. `by` is the
    option that gave `settings`.
    """
    changed = _changed(recipe, parsed_settings(settings, by), by)
    for name, value in options.items():
        if value is not None:
            changed = _changed(changed, {OPTIONS.get(name, name): value}, f"--{name.replace('_', '-')}")
    return changed


def _changed(recipe: R, given: Mapping[str, Any], where: str) -> R:
    """Return the recipe with other values, by dotted key."""
    if "encoder.name" in given and given["encoder.name"] not in BACKBONE_SETTINGS:
        discover()
    content = recipe.content() | ({REPORTED: recipe.reported} if not isinstance(recipe, LinearRecipe) else {})
    encoder = given.get("encoder.name")
    if encoder is not None and encoder != flat(content).get("encoder.name"):
        content["encoder"] = {}
    if chosen := {key: given[f"optimiser.{key}"] for key in ("name", "schedule") if f"optimiser.{key}" in given}:
        content["optimiser"] = _with_effect(recipe.optimiser, chosen)
    for key, value in given.items():
        section, dot, name = key.partition(".")
        if section == VIEWS and dot:
            content[VIEWS] = _with_view(content.get(VIEWS, {}), name, value)
            continue
        if dot and not is_section(content.get(section, {})):
            section, dot = key, ""
        if dot:
            content[section] = {**content.get(section, {}), name: value}
        else:
            content[section] = value
    return recipe_from(content, where, type(recipe))


def _with_effect(optimiser: LearningRates, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that keep an effect with another optimiser or schedule; a wrong one is found later."""
    unused = replace(optimiser, **chosen).without_effect()
    return {key: value for key, value in optimiser.content().items() if key not in unused}


def _with_view(views: Any, path: str, value: Any) -> Any:
    """Return a section of views with another value of a view, of an operator (VIEW.OP) or of its setting.

    A view that is a list or a chain's name becomes changes of it.
    """
    if not is_section(views):
        return {path: value}  # which is refused with the section's other values
    name, *keys = path.split(".")
    if not keys:
        return {**views, name: value}
    own = views.get(name, {})
    return {**views, name: _nested(own if is_section(own) else {BASE: own}, keys, value)}


def _nested(content: Mapping[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    """Return a mapping with the value at keys that lead into it."""
    key, *rest = keys
    if not rest:
        return {**content, key: value}
    inner = content.get(key, {})
    return {**content, key: _nested(inner if is_section(inner) else {}, rest, value)}


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Return one `key: old, now new` text for each value that differs; views differ by their operators."""
    before, now = flat(old.content()), flat(new.content())
    if not isinstance(old, LinearRecipe) and not isinstance(new, LinearRecipe) and _like(old) == _like(new):
        # The names and strengths of `augment` are compared as values of their own.
        same_strength: Any = replace(old, augment=new.augment)  # type: ignore[arg-type]
        before, now = (_without_views(values) for values in (before, now))
        before |= _operators(same_strength)
        now |= _operators(new)
    keys = [*before, *(key for key in now if key not in before)]
    return [f"{key}: {before.get(key)}, now {now.get(key)}" for key in keys if before.get(key) != now.get(key)]


def _like(recipe: PretrainRecipe | FinetuneRecipe) -> tuple[str, str]:
    """Return what says which views there are."""
    return (recipe.method, recipe.variant) if isinstance(recipe, PretrainRecipe) else (recipe.protocol, "")


def _without_views(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not f"{key}.".startswith(f"{VIEWS}.")}


def _operators(recipe: PretrainRecipe | FinetuneRecipe) -> dict[str, str]:
    """Return all operators of each view as a text, by dotted key."""
    found = recipe.operators().items()
    return {f"{VIEWS}.{name}": ", ".join(op.text() for op in ops) or "none" for name, ops in found}


def to_yaml(recipe: Recipe) -> str:
    """Return the recipe as a file that `load_recipe` reads back to an equal recipe."""
    content = recipe.content()
    if not isinstance(recipe, LinearRecipe) and recipe.reported:
        content[REPORTED] = recipe.reported
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
