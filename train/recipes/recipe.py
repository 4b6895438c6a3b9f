"""Recipes: every value a pre-training run depends on, read from YAML, checked, overridden and written back.

A recipe stands for itself: there is no inheritance between files. Inside the program it is flat,
`recipe["encoder.width"]`; files and `Recipe.nested` have the sections.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from skelpipe.errors import UsageError
from skelpipe.models.build import ENCODERS, METHODS
from skelpipe.models.parts import SECTIONS, SETTINGS
from skelpipe.models.settings import Setting

__all__ = [
    "Recipe",
    "builtin_recipes",
    "check_reported",
    "check_value",
    "differences",
    "flatten",
    "known_keys",
    "load_recipe",
    "parse_recipe",
    "with_overrides",
]

TRAINING: Mapping[str, Setting] = {
    "frames": Setting("int", low=2),
    "epochs": Setting("int", low=1),
    "batch_size": Setting("int", low=1),
    "optimiser.name": Setting("str", choices=("sgd", "adam")),
    "optimiser.lr": Setting("float", low=0),
    "optimiser.momentum": Setting("float", low=0, high=1),
    "optimiser.weight_decay": Setting("float", low=0),
    "optimiser.warmup": Setting("int", low=0),
    "optimiser.milestones": Setting("ints", low=1),
    "optimiser.accumulate": Setting("int", low=1),
}
REPORTED = "reported"


@dataclass(frozen=True)
class Recipe:
    """Checked values by dotted key, and the name by which the papers' tables (`train/papers`) know the recipe.

    A recipe of one's own has no such name: no paper's figures are of it. The name is no part of a comparison.
    """

    values: Mapping[str, Any]
    reported: str = ""

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def method(self) -> str:
        """The method's name, such as `skeletonclr`."""
        return str(self.values["method"])

    def nested(self) -> dict[str, Any]:
        """Return the values with their sections, as `models.build_method` reads them."""
        content: dict[str, Any] = {}
        for key, value in self.values.items():
            *section, name = key.split(".")
            target = content.setdefault(section[0], {}) if section else content
            target[name] = value
        return content

    def to_yaml(self) -> str:
        """Return the recipe as a file `load_recipe` reads back to an equal recipe."""
        content = self.nested()
        if self.reported:
            content[REPORTED] = self.reported
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)


def known_keys(method: str, encoder: str) -> dict[str, Setting]:
    """Return what a recipe of this method with this encoder holds, by dotted key: all of it must be there."""
    sections = {"encoder": {"name": _one_of(ENCODERS), **ENCODERS[encoder].settings}, **SECTIONS}
    sections[method] = METHODS[method].settings
    inner = {f"{section}.{key}": setting for section, keys in sections.items() for key, setting in keys.items()}
    return {"method": _one_of(METHODS), "variant": SETTINGS["variant"], **TRAINING, **SETTINGS, **inner}


def builtin_recipes() -> list[str]:
    """Return the names of the recipes that travel with the package."""
    folder = files("skelpipe.train").joinpath("recipes")
    names = (entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return sorted(name for name in names if not name.startswith(("linear", "finetune", "supervised")))


def load_recipe(name: str) -> Recipe:
    """Load a built-in recipe by name, or any recipe by the path of its YAML file."""
    if name in builtin_recipes():
        text = files("skelpipe.train").joinpath("recipes", f"{name}.yaml").read_text("utf-8")
        return parse_recipe(text, name)
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"there is no recipe {name!r}: give the path of a YAML file or one of: {', '.join(builtin_recipes())}"
        )
    try:
        return parse_recipe(path.read_text("utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {name}: cannot be read: {error}") from None


def parse_recipe(text: str, where: str) -> Recipe:
    """Read a recipe from YAML text; `where` names it in errors."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"recipe {where}: no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageError(f"recipe {where}: expected `key: value` lines, found {_kind(content)}")
    reported = check_reported(content.pop(REPORTED, None), where)
    values = _complete(flatten(content), f"recipe {where}")
    return Recipe(values, reported)


def with_overrides(recipe: Recipe, settings: Iterable[str] = (), /, **common: Any) -> Recipe:
    """Return the recipe with `key=value` texts applied, then the keyword values that are not None.

    Keywords are keys without section, or the lr: `epochs=30, batch_size=64, lr=0.01`. Another encoder comes with
    its own settings, at their defaults where they are not given.
    """
    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UsageError(f"--set {setting}: expected KEY=VALUE, such as --set encoder.width=8")
        if key == "method":
            raise UsageError(f"--set {setting}: another method needs another recipe: give --method or --recipe")
        try:
            given[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"--set {setting}: the value is no valid YAML") from None
    values = dict(recipe.values)
    encoder = _one_of(ENCODERS).check("encoder.name", given.get("encoder.name", values["encoder.name"]), "--set")
    if encoder != values["encoder.name"]:
        values = {key: value for key, value in values.items() if not key.startswith("encoder.")}
        values |= {f"encoder.{key}": value for key, value in ENCODERS[encoder].defaults().items()}
    values = _complete(values | {"encoder.name": encoder} | given, "--set")
    known = known_keys(recipe.method, encoder)
    for name, value in common.items():
        if value is not None:
            key = "optimiser.lr" if name == "lr" else name
            values[key] = check_value(known, key, value, f"--{name.replace('_', '-')}")
    return replace(recipe, values=values)


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Return one `key: old, now new` text for each value that differs."""
    keys = [*old.values, *(key for key in new.values if key not in old.values)]
    return [
        f"{key}: {old.values.get(key)}, now {new.values.get(key)}"
        for key in keys
        if old.values.get(key) != new.values.get(key)
    ]


def _one_of(table: Mapping[str, Any]) -> Setting:
    return Setting("str", choices=tuple(table))


def flatten(content: Mapping[Any, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        inner = {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {}
        flat.update(inner or {str(key): value})
    return flat


def _complete(flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return all values in their order, checked; what is unknown, wrong or missing is named."""
    if "method" not in flat:
        raise UsageError(f"{where}: missing: method")
    method = _one_of(METHODS).check("method", flat["method"], where)
    encoder = _one_of(ENCODERS).check("encoder.name", flat.get("encoder.name", next(iter(ENCODERS))), where)
    known = known_keys(method, encoder)
    earlier = {f"{method}.{key}": value for key, value in METHODS[method].earlier.items()}
    values = earlier | {key: check_value(known, key, value, where) for key, value in flat.items()}
    missing = [key for key in known if key not in values]
    if missing:
        raise UsageError(f"{where}: missing: {', '.join(missing)}")
    return {key: values[key] for key in known}


def check_value(known: Mapping[str, Setting], key: str, value: Any, where: str) -> Any:
    """Return `value` as its key wants it, or say what is wrong with it. YAML reads 1e-4 as text: a number here."""
    if key not in known:
        if any(name.startswith(f"{key}.") for name in known):
            raise UsageError(f"{where}: {key} must be a section of `key: value` lines, not {_kind(value)}")
        raise UsageError(f"{where}: unknown key {key!r}; known: {', '.join(known)}")
    if known[key].kind == "float" and isinstance(value, str):
        with suppress(ValueError):  # then it is refused as the text it is
            value = float(value)
    return known[key].check(key, value, where)


def check_reported(name: Any, where: str) -> str:
    """Return `reported`, the recipe's name in the papers' tables, or nothing where it has none there.

    Runs of earlier versions have figures in its place: they are looked up in the tables alone.
    """
    if name is None or isinstance(name, dict):
        return ""
    if not isinstance(name, str):
        raise UsageError(
            f"recipe {where}: {REPORTED} must be the recipe's name in the papers' tables, not {name!r}"
        )
    return name


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
