"""The recipes of fine-tuning and of the supervised baseline: `train/recipes/*.yaml`, checked and overridden.

They are flat `Recipe`s like those of pre-training, with other keys: no method, and a network (`encoder.*`) only
where one is to be trained from scratch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from skelpipe.errors import UsageError
from skelpipe.models.encoders import ENCODERS, INIT
from skelpipe.models.settings import Setting
from skelpipe.train.recipes.recipe import REPORTED, TRAINING, Recipe, check_reported, check_value, flatten

__all__ = ["builtin_tuning_recipes", "load_tuning_recipe", "parse_tuning_recipe", "with_tuning_overrides"]

PROTOCOL = "finetune"
FOLDER = "recipes"
KEYS: Mapping[str, Setting] = {
    "protocol": Setting("str", choices=(PROTOCOL,)),
    **{key: setting for key, setting in TRAINING.items() if key != "frames"},
    "optimiser.nesterov": Setting("bool"),
    "init": INIT,
    "modes": Setting("str", choices=("train", "eval")),
    "augment.name": Setting("str", choices=("none", "normal", "aimclr-extreme", "msmclr-strong")),
    "augment.shear": Setting("float", low=0),
    "augment.crop": Setting("int", low=1),
}


def builtin_tuning_recipes() -> list[str]:
    """Return the names of the recipes for fine-tuning that travel with the package."""
    names = (entry.name for entry in files("skelpipe.train").joinpath(FOLDER).iterdir())
    mine = (name for name in names if name.endswith(".yaml") and name.startswith((PROTOCOL, "supervised")))
    return sorted(name.removesuffix(".yaml") for name in mine)


def load_tuning_recipe(name: str) -> Recipe:
    """Load a built-in recipe by name, or any by the path of its YAML file; UsageError where it is wrong."""
    if name in builtin_tuning_recipes():
        return parse_tuning_recipe(
            files("skelpipe.train").joinpath(FOLDER, f"{name}.yaml").read_text("utf-8"), name
        )
    path = Path(name)
    if not path.is_file():
        known = ", ".join(builtin_tuning_recipes())
        raise UsageError(f"there is no recipe {name!r}: give the path of a YAML file or one of: {known}")
    try:
        return parse_tuning_recipe(path.read_text("utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {name}: cannot be read: {error}") from None


def parse_tuning_recipe(text: str, where: str) -> Recipe:
    """Read a recipe from YAML text; `where` names it in errors. All keys must be there, the encoder's or none."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"recipe {where}: no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageError(f"recipe {where}: expected `key: value` lines")
    reported = check_reported(content.pop(REPORTED, None), where)
    return Recipe(_complete(flatten(content), f"recipe {where}"), reported)


def with_tuning_overrides(recipe: Recipe, settings: Iterable[str] = (), /, **common: Any) -> Recipe:
    """Return the recipe with `key=value` texts applied, then the keyword values that are not None.

    Keywords are `epochs`, `batch_size` and `lr`. Another encoder comes with its own settings, at their defaults
    where they are not given.
    """
    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UsageError(f"--set {setting}: expected KEY=VALUE, such as --set optimiser.warmup=0")
        try:
            given[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"--set {setting}: the value is no valid YAML") from None
    values = dict(recipe.values)
    name = str(given.get("encoder.name"))
    if name in ENCODERS and name != values.get("encoder.name"):
        values = {key: value for key, value in values.items() if not key.startswith("encoder.")}
        values |= {f"encoder.{key}": value for key, value in ENCODERS[name].defaults().items()}
    values = _complete(values | given, "--set")
    for option, value in common.items():
        if value is not None:
            key = "optimiser.lr" if option == "lr" else option
            values[key] = check_value(KEYS, key, value, f"--{option.replace('_', '-')}")
    return replace(recipe, values=values)


def _complete(flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return all values in their order, checked; what is unknown, wrong or missing is named."""
    known = dict(KEYS)
    if any(key.startswith("encoder.") for key in flat):
        name_setting = Setting("str", choices=tuple(ENCODERS))
        name = name_setting.check("encoder.name", flat.get("encoder.name", next(iter(ENCODERS))), where)
        settings = ENCODERS[name].settings
        known |= {"encoder.name": name_setting} | {f"encoder.{key}": each for key, each in settings.items()}
    values = {key: check_value(known, key, value, where) for key, value in flat.items()}
    missing = [key for key in known if key not in values]
    if missing:
        raise UsageError(f"{where}: missing: {', '.join(missing)}")
    return {key: values[key] for key in known}
