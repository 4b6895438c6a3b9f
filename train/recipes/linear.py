"""How the classifier of linear evaluation is trained: `train/recipes/linear*.yaml`, checked and overridden."""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from skelpipe.errors import UsageError
from skelpipe.models.settings import Setting

__all__ = ["Schedule", "builtin_schedules", "default_schedule", "load_schedule", "nested", "with_settings"]

PROTOCOL, FOLDER = "linear", "recipes"
KEYS: Mapping[str, Setting] = {
    "protocol": Setting("str", choices=(PROTOCOL,)),
    "epochs": Setting("int", low=1),
    "batch_size": Setting("int", low=1),
    "test_every": Setting("int", low=1),
    "optimiser.lr": Setting("float", low=0),
    "optimiser.momentum": Setting("float", low=0, high=1),
    "optimiser.weight_decay": Setting("float", low=0),
    "optimiser.milestones": Setting("ints", low=1),
}
OWN = {"skeattnclr": "linear-skeattnclr"}  # methods whose paper has numbers of its own

Schedule = Mapping[str, Any]  # every key of KEYS, checked


def builtin_schedules() -> list[str]:
    """Return the names of the schedules that travel with the package."""
    names = (entry.name for entry in files("skelpipe.train").joinpath(FOLDER).iterdir())
    mine = (name for name in names if name.startswith(PROTOCOL) and name.endswith(".yaml"))
    return sorted(name.removesuffix(".yaml") for name in mine)


def default_schedule(method: str | None) -> str:
    """Return the name of the schedule that a method's paper uses."""
    return OWN.get(method or "", PROTOCOL)


def load_schedule(name: str) -> Schedule:
    """Load a built-in schedule by name, or any by the path of its YAML file; UsageError where it is wrong."""
    try:
        if name in builtin_schedules():
            text = files("skelpipe.train").joinpath(FOLDER, f"{name}.yaml").read_text("utf-8")
        elif Path(name).is_file():
            text = Path(name).read_text("utf-8")
        else:
            known = ", ".join(builtin_schedules())
            raise UsageError(f"there is no recipe {name!r}: give the path of a YAML file or one of: {known}")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"recipe {name}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageError(f"recipe {name}: expected `key: value` lines")
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= (
            {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
        )
    return _checked(flat, f"recipe {name}")


def with_settings(schedule: Schedule, settings: Iterable[str] = (), /, **common: Any) -> Schedule:
    """Return the schedule with `key=value` texts applied, then the keywords: epochs, batch_size and lr, if set."""
    values = dict(schedule)
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UsageError(f"--set {setting}: expected KEY=VALUE, such as --set optimiser.lr=1")
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"--set {setting}: the value is no valid YAML") from None
    values = _checked(values, "--set")
    for name, value in common.items():
        if value is not None:
            key = "optimiser.lr" if name == "lr" else name
            values[key] = KEYS[key].check(key, value, f"--{name.replace('_', '-')}")
    return values


def nested(schedule: Schedule) -> dict[str, Any]:
    """Return the values with their sections, as a file has them."""
    content: dict[str, Any] = {}
    for key, value in schedule.items():
        *section, name = key.split(".")
        (content.setdefault(section[0], {}) if section else content)[name] = value
    return content


def _checked(flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return all values in their order, checked; what is unknown, wrong or missing is named."""
    unknown = [str(key) for key in flat if key not in KEYS]
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(KEYS)}")
    missing = [key for key in KEYS if key not in flat]
    if missing:
        raise UsageError(f"{where}: missing: {', '.join(missing)}")
    return {key: setting.check(key, flat[key], where) for key, setting in KEYS.items()}
