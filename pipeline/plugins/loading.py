"""Importing plug-ins, by the name of a module or of an entry point."""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.plugins.registry import Registry
from skelpipe.plugins.tables import LOADED, TABLES, Plugin

__all__ = ["GROUP", "discover", "installed", "load", "load_all", "suggestion", "unload"]

GROUP: Final = "skelpipe.plugins"  # of entry points
# The modules that hold the tables. They are imported when a plug-in adds something to them, not before.
HOMES: Final[Mapping[str, str]] = {
    "layout": "skelpipe.skeleton",
    "reader": "skelpipe.raw.readers",
    "operator": "skelpipe.augment.operators",
    "chain": "skelpipe.augment.op_lists",
    "backbone": "skelpipe.models.encoders",
    "backbone's settings": "skelpipe.models.settings.tables",
    "method": "skelpipe.models.build",
    "method's settings": "skelpipe.models.settings.tables",
    "method's views": "skelpipe.augment.named_chains",
    "recipe": "skelpipe.plugins.recipes",
}


def load(name: str) -> Plugin:
    """Import a plug-in by the name of its module, or of its entry point, and add what it registers.

    The current folder is searched after all others. To load it again does nothing. Raises UsageError, in one line
    that names the plug-in, for a module that is missing or fails, and for what `Table.add` refuses; nothing of the
    plug-in is added then.
    """
    name = installed().get(name, name)
    if name not in LOADED:
        try:
            module = _imported(name)
            plugin = Plugin(name, _version(module), _digest(module))
            registry = _registered(module)
            _add(plugin, registry)
        except UsageError as error:
            raise UsageError(f"plug-in {name}: {' '.join(str(error).split())}") from None
        LOADED[name] = plugin
    return LOADED[name]


def unload(module: str) -> None:
    """Take back all that a plug-in added, so that `load` imports it anew."""
    plugin = LOADED.pop(module)
    for table in TABLES.values():
        table.remove(plugin)
    sys.modules.pop(module, None)


def installed() -> dict[str, str]:
    """Return the modules of installed plug-ins by the names of their entry points; nothing is imported."""
    from importlib import metadata  # by no means always asked for, and slow to import

    return {each.name: each.module for each in metadata.entry_points(group=GROUP)}


def load_all(names: str | Iterable[str]) -> None:
    """Load plug-ins, one or several."""
    for name in [names] if isinstance(names, str) else names:
        load(name)


def suggestion() -> str:
    """Return the end of a message about a name that is not known: which installed plug-ins may add it."""
    others = [f"--plugin {name}" for name, module in installed().items() if module not in LOADED]
    return f"; an installed plug-in may add it: {', '.join(others)}" if others else ""


def discover() -> None:
    """Load all installed plug-ins; for a name that a user gives on the command line and that is not built in."""
    for name in installed():
        load(name)


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            known = ", ".join(installed()) or "none"
            raise UsageError(f"there is no module {error.name!r}; installed plug-ins: {known}") from None
        raise UsageError(f"cannot be imported: {error}") from None
    except (Exception, SystemExit) as error:
        raise UsageError(f"cannot be imported: {type(error).__name__}: {error}") from None


def _registered(module: ModuleType) -> Registry:
    register = getattr(module, "register", None)
    if not callable(register):
        raise UsageError("has no function register(registry)")
    registry = Registry()
    try:
        register(registry)
    except SkelpipeError as error:
        raise UsageError(str(error)) from None
    except Exception as error:
        raise UsageError(f"register fails: {type(error).__name__}: {error}") from None
    if not registry.added:
        raise UsageError("registers nothing")
    return registry


def _add(plugin: Plugin, registry: Registry) -> None:
    order = list(HOMES)
    try:
        for kind, name, given in sorted(registry.added, key=lambda each: order.index(each[0])):
            import_module(HOMES[kind])
            TABLES[kind].add(plugin, name, given)
    except UsageError:
        for table in TABLES.values():
            table.remove(plugin)
        raise


def _version(module: ModuleType) -> str:
    """Return the version that the module, its package or its distribution says."""
    top = module.__name__.partition(".")[0]
    for each in (module, sys.modules[top]):
        if isinstance(version := getattr(each, "__version__", None), str):
            return version
    from importlib import metadata

    with suppress(metadata.PackageNotFoundError):
        return metadata.version(top)
    return ""


def _digest(module: ModuleType) -> str:
    """Return the sha256 of the module's file, or of all Python files of its package, with their names."""
    top = sys.modules[module.__name__.partition(".")[0]]
    folder = Path(top.__file__).parent if hasattr(top, "__path__") and top.__file__ else None
    if folder is None:
        return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
