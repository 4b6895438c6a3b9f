"""Recipes: every value a pre-training run depends on, read from YAML, checked, overridden and written back.

A recipe stands for itself: there is no inheritance between files. Inside the program it is flat,
`recipe["encoder.width"]`; files and `Recipe.nested` have the sections.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from skelpipe.errors import UsageError
from skelpipe.models.build import ENCODERS, METHODS
from skelpipe.models.graph import VARIANTS

__all__ = ["Recipe", "builtin_recipes", "differences", "load_recipe", "parse_recipe", "with_overrides"]


@dataclass(frozen=True)
class Key:
    """What one value of a recipe may be: `kind`, a range with both ends allowed, or a list of choices."""

    kind: str  # "int", "float", "bool", "str" or "ints"
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()


TINY = 1e-12  # stands for "above zero"

KEYS: dict[str, Key] = {
    "method": Key("str", choices=METHODS),
    "frames": Key("int", low=2),
    "epochs": Key("int", low=1),
    "batch_size": Key("int", low=1),
    "init": Key("str", choices=("paper", "default")),
    "optimiser.name": Key("str", choices=("sgd", "adam")),
    "optimiser.lr": Key("float", low=0),
    "optimiser.momentum": Key("float", low=0, high=1),
    "optimiser.weight_decay": Key("float", low=0),
    "optimiser.milestones": Key("ints", low=1),
    "temperature": Key("float", low=TINY),
    "momentum": Key("float", low=0, high=1),
    "queue": Key("int", low=1),
    "encoder.name": Key("str", choices=ENCODERS),
    "encoder.graph": Key("str", choices=VARIANTS),
    "encoder.width": Key("int", low=1),
    "encoder.out_channels": Key("int", low=1),
    "encoder.dropout": Key("float", low=0, high=0.999),
    "head.hidden": Key("int", low=1),
    "head.dim": Key("int", low=1),
    "head.batch_norm": Key("bool"),
    "augment.shear": Key("float", low=0),
    "augment.crop": Key("int", low=1),
}
REPORTED = "reported"
SOURCE = "source"


@dataclass(frozen=True)
class Recipe:
    """Checked values by dotted key, and the accuracies its paper reports (never part of a comparison)."""

    values: Mapping[str, Any]
    reported: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

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
            content[REPORTED] = {key: dict(value) for key, value in self.reported.items()}
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)

    def figure(self, protocol: str, stream: str, dataset: str) -> tuple[float, str] | None:
        """Return the reported accuracy in % and its source, or None where the paper has none.

        `protocol` is `knn` or `linear`, `stream` a view, `dataset` a name with its split (`ntu60-xsub`).
        """
        table = self.reported.get(protocol, {})
        value = table.get(stream, {}).get(dataset)
        return None if value is None else (float(value), str(table[SOURCE]))


def builtin_recipes() -> list[str]:
    """Return the names of the recipes that travel with the package."""
    folder = files("skelpipe.train").joinpath("recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


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
    reported = _check_reported(content.pop(REPORTED, None) or {}, where)
    flat = _flatten(content, where)
    values = {key: _check(key, value, f"recipe {where}") for key, value in flat.items()}
    missing = [key for key in KEYS if key not in values]
    if missing:
        raise UsageError(f"recipe {where}: missing: {', '.join(missing)}")
    return Recipe({key: values[key] for key in KEYS}, reported)


def with_overrides(recipe: Recipe, settings: Iterable[str] = (), /, **common: Any) -> Recipe:
    """Return the recipe with `key=value` texts applied, then the keyword values that are not None.

    Keywords are keys without section, or the lr: `epochs=30, batch_size=64, lr=0.01`.
    """
    values = dict(recipe.values)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: expected KEY=VALUE, such as --set encoder.width=8")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"--set {setting}: the value is no valid YAML") from None
        values[key.strip()] = _check(key.strip(), value, "--set")
    for name, value in common.items():
        if value is not None:
            key = "optimiser.lr" if name == "lr" else name
            values[key] = _check(key, value, f"--{name.replace('_', '-')}")
    return replace(recipe, values=values)


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Return one `key: old, now new` text for each value that differs."""
    keys = [*old.values, *(key for key in new.values if key not in old.values)]
    return [
        f"{key}: {old.values.get(key)}, now {new.values.get(key)}"
        for key in keys
        if old.values.get(key) != new.values.get(key)
    ]


def _flatten(content: Mapping[Any, Any], where: str) -> dict[str, Any]:
    sections = {key.split(".")[0] for key in KEYS if "." in key}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if key not in sections:
            flat[str(key)] = value
        elif isinstance(value, dict):
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            raise UsageError(f"recipe {where}: {key} must be a section of `key: value` lines, not {_kind(value)}")
    return flat


def _check(key: str, value: Any, where: str) -> Any:
    """Return `value` as its key wants it, or say what is wrong with it."""
    if key not in KEYS:
        raise UsageError(f"{where}: unknown key {key!r}; known: {', '.join(KEYS)}")
    known = KEYS[key]
    value = _as_kind(known.kind, value)
    if value is None:
        wanted = {"ints": "a list of whole numbers", "int": "a whole number", "float": "a number"}
        raise UsageError(f"{where}: {key} must be {wanted.get(known.kind, known.kind)}")
    if known.choices and value not in known.choices:
        raise UsageError(f"{where}: {key} is {value!r}; known: {', '.join(known.choices)}")
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        if isinstance(number, int | float) and not known.low <= number <= known.high:
            least = "above 0" if known.low == TINY else f"at least {known.low:g}"
            most = "" if known.high == math.inf else f" and at most {known.high:g}"
            raise UsageError(f"{where}: {key} is {number}; it must be {least}{most}")
    return value


def _as_kind(kind: str, value: Any) -> Any:
    """Return `value` as `kind`, or None where it is something else. YAML reads 1e-4 as text: taken as a number."""
    if kind == "ints":
        whole = isinstance(value, list) and all(_as_kind("int", item) is not None for item in value)
        return value if whole else None
    if kind == "float" and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    plain = {"int": int, "bool": bool, "str": str}.get(kind)
    return value if plain is not None and type(value) is plain else None


def _check_reported(tables: Any, where: str) -> dict[str, dict[str, Any]]:
    """Check `reported`: protocol -> {source: text, stream: {dataset-split: accuracy}}."""
    if not isinstance(tables, dict):
        raise UsageError(f"recipe {where}: {REPORTED} must be a section, not {_kind(tables)}")
    for protocol, table in tables.items():
        place = f"recipe {where}: {REPORTED}.{protocol}"
        if not isinstance(table, dict) or not isinstance(table.get(SOURCE), str):
            raise UsageError(f"{place} must be a section with a `{SOURCE}`")
        for stream, figures in table.items():
            if stream == SOURCE:
                continue
            if not isinstance(figures, dict):
                raise UsageError(f"{place}.{stream} must map datasets to accuracies")
            for dataset, figure in figures.items():
                if _as_kind("float", figure) is None:
                    raise UsageError(f"{place}.{stream}.{dataset} must be a number, not {_kind(figure)}")
    return tables


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
