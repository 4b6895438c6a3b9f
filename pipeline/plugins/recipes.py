"""The recipes that plug-ins bring with their methods; the built-in ones are files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from skelpipe.plugins.tables import Table

__all__ = ["RECIPES"]


def _accept(name: str, given: Mapping[str, Any] | str | Path | None) -> Mapping[str, Any]:
    """Return the recipe of a plug-in's method."""
    from skelpipe.yaml_reader import read_yaml

    content = read_yaml(Path(given)) if isinstance(given, str | Path) else given or {}
    if not isinstance(content, Mapping) or content.get("method", name) != name:
        raise ValueError(f"`key: value` lines are expected, of method {name}")
    return {**content, "method": name}


RECIPES: Final[Table[Mapping[str, Any]]] = Table("recipe", {}, _accept)
