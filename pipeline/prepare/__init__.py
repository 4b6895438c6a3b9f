"""Writing datasets: the plan from raw files, the engines that run it, the writers, and copies."""

import sys
from inspect import signature
from types import ModuleType
from typing import Any

from skelpipe.prepare.run import FORMATS, Options, Outcome, prepare, survey, write_dataset

__all__ = ["FORMATS", "Options", "Outcome", "prepare", "survey", "write_dataset"]


class _Package(ModuleType):
    """This package as `skelpipe.prepare`, which is both the package and its main function."""

    __signature__ = signature(prepare)

    def __call__(self, *args: Any, **settings: Any) -> Outcome:
        return prepare(*args, **settings)


sys.modules[__name__].__class__ = _Package
