"""Plug-ins: modules from outside that add methods, backbones, augmentations, raw readers and layouts.

A plug-in is a module with a function `register(registry)`; docs/plugins.md says what it may add and what each
thing must have. It is imported because a user names it, in `--plugin` or by `load`, never because a file does:
files say which plug-ins they need, and reading one without them is an error that says so.
"""

from skelpipe.plugins.loading import discover, installed, load, suggestion, unload
from skelpipe.plugins.recipes import RECIPES
from skelpipe.plugins.registry import Registry
from skelpipe.plugins.tables import MissingPlugin, Plugin, Table, check_call, loaded, origins, require, used

__all__ = [
    "RECIPES",
    "MissingPlugin",
    "Plugin",
    "Registry",
    "Table",
    "check_call",
    "discover",
    "installed",
    "load",
    "loaded",
    "origins",
    "require",
    "suggestion",
    "unload",
    "used",
]
