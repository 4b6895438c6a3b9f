"""What there is of each kind: tables of the built-in things, and of those that plug-ins add.

Each kind has one `Table`, in the module that uses it. A file says which plug-ins it needs; reading one without
them is an error that names them (`require`).
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Generic, TypeVar

from skelpipe.errors import SkelpipeError, UsageError

__all__ = [
    "LOADED",
    "TABLES",
    "MissingPlugin",
    "Plugin",
    "Table",
    "check_call",
    "loaded",
    "origins",
    "require",
    "used",
]

T = TypeVar("T")

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Plugin:
    """A plug-in that was loaded: its module, its version ("" where it says none) and the hash of its files."""

    module: str
    version: str
    sha256: str

    def to_plain(self) -> dict[str, str]:
        """Return values for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, str]) -> "Plugin":
        """Return what `to_plain` returned."""
        return cls(plain["module"], plain["version"], plain["sha256"])

    def __str__(self) -> str:
        return f"{self.module} {self.version}".strip()


class MissingPlugin(UsageError):  # noqa: N818  (a usage error like the others, which readers of files let pass)
    """A file needs a plug-in that is not loaded."""


class Table(dict[str, T], Generic[T]):
    """What there is of a kind, by name: the built-in ones, then those of plug-ins, whose `origins` are named.

    `accept` makes an entry of what a plug-in gives to `Registry`; it raises UsageError, or ValueError with a
    complaint, for what misses a part of the contract.
    """

    def __init__(self, kind: str, built_in: Mapping[str, T], accept: Callable[..., T]) -> None:
        super().__init__(built_in)
        self.kind = kind
        self.origins: dict[str, Plugin] = {}
        self.accept = accept
        TABLES[kind] = self

    def add(self, plugin: Plugin, name: str, given: tuple[Any, ...]) -> None:
        """Add what a plug-in gives under a name; UsageError where the name is taken or a part is missing."""
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UsageError(f"the name of a {self.kind} has lower-case letters, digits, . _ and -, not {name!r}")
        if name in self:
            owner = f"of the plug-in {self.origins[name]}" if name in self.origins else "built in"
            raise UsageError(f"there is a {self.kind} {name!r} already, {owner}")
        try:
            self[name] = self.accept(name, *given)
        except (ValueError, SkelpipeError) as error:
            raise UsageError(f"{self.kind} {name!r}: {error}") from None
        self.origins[name] = plugin

    def remove(self, plugin: Plugin) -> None:
        """Remove all that a plug-in added."""
        for name in [name for name, origin in self.origins.items() if origin == plugin]:
            del self[name], self.origins[name]


TABLES: Final[dict[str, Table[Any]]] = {}
LOADED: Final[dict[str, Plugin]] = {}  # by module


def check_call(function: Any, name: str, *arguments: str) -> None:
    """Raise ValueError where a part of a contract cannot be called with these arguments, by position."""
    if not callable(function):
        raise ValueError(f"its {name} is no function ({', '.join(arguments)})")
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise ValueError(f"its {name} cannot be called with ({', '.join(arguments)}): {error}") from None


def loaded() -> tuple[Plugin, ...]:
    """Return the plug-ins that are loaded, in the order of their loading."""
    return tuple(LOADED.values())


def used(modules: Iterable[str]) -> tuple[Plugin, ...]:
    """Return the loaded plug-ins of these modules."""
    return tuple(LOADED[module] for module in modules)


def require(names: Any, where: str) -> None:
    """Raise UsageError where a file, `where`, needs plug-ins that are not loaded, with the option to give.

    `names` is what the file says: a list of modules.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{where}: plugins must be a list of modules, not {names!r}")
    if missing := [name for name in names if name not in LOADED]:
        options = " ".join(f"--plugin {name}" for name in missing)
        raise MissingPlugin(
            f"{where}: needs the plug-in {', '.join(missing)}, which is not loaded: give {options}"
            f" (in Python: {', '.join(f'skelpipe.plugins.load({name!r})' for name in missing)})"
        )


def origins(names: Iterable[tuple[str, str]]) -> list[str]:
    """Return the modules of the plug-ins that things come from, in order; `names` are (kind, name)."""
    found = (TABLES[kind].origins.get(name) for kind, name in names if kind in TABLES)
    return sorted({plugin.module for plugin in found if plugin is not None})
