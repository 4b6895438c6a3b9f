"""The files of the recipes that come with the package, and which of them a recipe is closest to."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["names", "recipe_text", "text_of"]

FOLDER = Path(__file__).parent
SHOWN = 6  # changed values in a text


def names() -> list[str]:
    """Return the names of all recipes, of every kind."""
    return sorted(each.name.removesuffix(".yaml") for each in FOLDER.iterdir() if each.name.endswith(".yaml"))


def text_of(name: str) -> str:
    """Return the file of a recipe."""
    return (FOLDER / f"{name}.yaml").read_text("utf-8")


@cache
def _values() -> dict[str, dict[str, Any]]:
    """Return what each file says, by dotted key, by the name of the recipe."""
    from skelpipe.settings import flat
    from skelpipe.yaml_reader import parse_yaml

    return {name: flat(parse_yaml(text_of(name), f"recipe {name}")) for name in names()}


def recipe_text(content: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return a recipe in one line: the built-in one of its method that it is closest to, and what it changes.

    `content` and `defaults` are sections; the latter hold what a file may leave out.
    """
    from skelpipe.settings import flat  # not above: options name recipes, and need no pydantic

    now, usual = flat(content), flat(defaults)
    which = "method" if "method" in now else "protocol"
    found = {
        name: {key: was for key in now if (was := values.get(key, usual.get(key))) != now[key]}
        for name, values in _values().items()
        if values.get(which) == now[which]
    }
    variant = f" ({now['variant']})" if "variant" in now else ""
    encoder = ""
    if "encoder.name" in now:
        width = f" of width {now['encoder.width']}" if "encoder.width" in now else ""
        encoder = f", encoder {now['encoder.name']}{width}"
    length = f"{now['epochs']} epochs in batches of {now['batch_size']}"
    text = f"{which} {now[which]}{variant}{encoder}, {length}"
    if not found:
        return text
    name = min(found, key=lambda each: (len(found[each]), len(each)))
    changed = found[name]
    if "encoder.name" in changed:  # whose settings are others
        changed = {key: was for key, was in changed.items() if key == "encoder.name" or "encoder." not in key}
    changes = [f"{key} {now[key]}" + (f" (was {was})" if was is not None else "") for key, was in changed.items()]
    more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    listed = f"changed: {', '.join(changes[:SHOWN])}{more}" if changes else "nothing changed"
    return f"{name}: {text}, {listed}"
