"""What a command line asks of recipes, checked before torch is imported; YAML is imported where it is needed."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

from skelpipe.errors import UsageError
from skelpipe.train.recipes import builtin

__all__ = [
    "OF_PLUGIN",
    "Kind",
    "builtin_methods",
    "check_method",
    "check_recipe",
    "parsed_settings",
    "recipe_names",
]

OF_PLUGIN = "one of a plug-in needs --plugin PACKAGE"
Kind: TypeAlias = Literal["pretraining", "finetuning", "linear evaluation"]  # the `kind` of a class of recipes

BEGINNINGS: dict[Kind, tuple[str, ...]] = {
    "finetuning": ("finetune", "supervised"),
    "linear evaluation": ("linear",),
}


def recipe_names(kind: Kind = "pretraining") -> list[str]:
    """Return the names of the recipes of a kind that come with the package."""
    names = builtin.names()
    others = tuple(beginning for each in BEGINNINGS.values() for beginning in each)
    if kind == "pretraining":
        return [name for name in names if not name.startswith(others)]
    return [name for name in names if name.startswith(BEGINNINGS[kind])]


def builtin_methods() -> list[str]:
    """Return the names of the methods that the built-in recipes train."""
    texts = map(builtin.text_of, recipe_names())
    return sorted(
        {found[1] for text in texts if (found := re.search(r"^method:\s*([\w.-]+)", text, re.MULTILINE))}
    )


def check_recipe(name: str | None, kind: Kind = "pretraining", more: Iterable[str] | None = None) -> None:
    """Raise UsageError where a recipe is neither built in, nor one of `more`, nor a file; None is the default.

    `more` are the recipes of plug-ins; where it is not given and there are plug-ins, every
    name passes.
    """
    known = [*recipe_names(kind), *(more or ())]
    if name is None or name in known or Path(name).is_file():
        return
    if more is not None or kind != "pretraining" or not _has_plugins():
        from skelpipe.yaml_reader import nearest

        hint = f"{nearest(name, known)}give the path of a YAML file or one of: {', '.join(known)}"
        raise UsageError(f"there is no recipe {name!r}: {hint}")


def check_method(name: str | None) -> None:
    """Raise UsageError for a method that is not built in, unless there are plug-ins, which may add it."""
    if name is not None and name not in (known := builtin_methods()) and not _has_plugins():
        from skelpipe.yaml_reader import nearest

        raise UsageError(
            f"there is no method {name!r}; {nearest(name, known)}known: {', '.join(known)}; {OF_PLUGIN}"
        )


def parsed_settings(settings: Iterable[str], by: str = "--set") -> dict[str, Any]:
    """Return `key=value` texts as values by key, the last one for a key; `by` is the option that gave them."""
    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UsageError(f"{by} {setting}: expected KEY=VALUE, such as {by} optimiser.lr=0.01")
        if key == "method":
            raise UsageError(f"{by} {setting}: another method needs another recipe: give --method or --recipe")
        from skelpipe.yaml_reader import parse_yaml

        try:
            given[key] = parse_yaml(text, "")
        except UsageError:
            raise UsageError(f"{by} {setting}: the value is no YAML") from None
    return given


def _has_plugins() -> bool:
    from skelpipe.plugins import installed, loaded

    return bool(loaded() or installed())
