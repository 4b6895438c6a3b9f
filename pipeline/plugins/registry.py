"""What a plug-in calls to add its things (docs/plugins.md has the contracts)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skelpipe.errors import UsageError

__all__ = ["Registry"]


@dataclass
class Registry:
    """Takes what a plug-in adds; its function `register` is called with one. docs/plugins.md has the contracts."""

    added: list[tuple[str, str, tuple[Any, ...]]] = field(default_factory=list)

    def method(self, kind: type, recipe: Mapping[str, Any] | str | Path | None = None) -> None:
        """Add a method, a subclass of `skelpipe.models.method.Method`, under its `name`.

        `recipe` says what its recipe has beside the defaults: a mapping, or the path of a YAML file.
        """
        name = getattr(kind, "name", None)
        if not isinstance(name, str):
            raise UsageError(f"method {_called(kind)}: it has no `name`")
        self.added.append(("method", name, (kind,)))
        self.added.append(("method's settings", name, (kind,)))
        self.added.append(("method's views", name, (getattr(kind, "view_chains", {}),)))
        self.added.append(("recipe", name, (recipe,)))

    def backbone(self, kind: type) -> None:
        """Add a backbone, a module with `Settings`, under the `name` of these."""
        name = getattr(getattr(kind, "Settings", None), "name", None)
        if not isinstance(name, str):
            raise UsageError(f"backbone {_called(kind)}: it has no `Settings` with a name")
        self.added.append(("backbone", name, (kind,)))
        self.added.append(("backbone's settings", name, (kind,)))

    def operator(self, name: str, kind: Callable[..., Any], main: str | Sequence[str] = ()) -> None:
        """Add an augmentation; a bare value in a list sets the settings `main`."""
        self.added.append(("operator", name, (kind, (main,) if isinstance(main, str) else tuple(main))))

    def chain(self, name: str, ops: Sequence[Any], released: Sequence[Any] | None = None) -> None:
        """Add a chain: a list of operators as recipes write it, for variant "released" another if there is one."""
        self.added.append(("chain", name, (ops, ops if released is None else released)))

    def reader(
        self, name: str, read: Callable[..., Any], channels: Sequence[Sequence[str]] = (("x", "y", "z"),)
    ) -> None:
        """Add a reader of raw files: (bytes, file name, Form) -> Recording.

        `channels` are those that a manifest may declare for its files.
        """
        self.added.append(("reader", name, (read, tuple(map(tuple, channels)))))

    def layout(self, name: str, content: Mapping[str, Any] | str | Path) -> None:
        """Add a layout: a mapping with the keys of a layout file, or the path of such a YAML file."""
        self.added.append(("layout", name, (content,)))


def _called(kind: Any) -> str:
    return getattr(kind, "__name__", repr(kind))
