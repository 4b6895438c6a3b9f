"""Writing datasets: the plan from raw files, the engines that run it, the writers, and copies."""

import sys
from inspect import signature
from types import ModuleType
from typing import Any

from skelpipe.manifest import Manifest
from skelpipe.prepare.request import prepare_dataset
from skelpipe.prepare.run import FORMATS, Options, Outcome, prepare, survey, write_dataset

__all__ = ["FORMATS", "Options", "Outcome", "prepare", "prepare_dataset", "survey", "write_dataset"]


class _Package(ModuleType):
    """This package as `skelpipe.prepare`, which is the package and also a function: `prepare_dataset`.

    Called with a manifest it is `prepare`, as it was before.
    """

    __signature__ = signature(prepare_dataset)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        if isinstance(args[0] if args else settings.get("manifest"), Manifest):
            return prepare(*args, **settings)
        return prepare_dataset(*args, **settings)


sys.modules[__name__].__class__ = _Package
