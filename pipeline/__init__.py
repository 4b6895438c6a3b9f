"""skelpipe: from raw skeleton recordings to datasets, streams, augmented batches and trained encoders.

The names of `__all__` are the front door (docs/python.md). Each is imported when it is first used, so that
`import skelpipe` takes a few milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skelpipe.augment.chain import chain
    from skelpipe.dataset import Dataset
    from skelpipe.loader import Loader, Stream
    from skelpipe.prepare import prepare_dataset as prepare
    from skelpipe.skeleton import Layout
    from skelpipe.train.inference import Classifier, Encoder

__all__ = [
    "Classifier",
    "Dataset",
    "Encoder",
    "Layout",
    "Loader",
    "Stream",
    "__version__",
    "chain",
    "prepare",
]

__version__ = "0.2.0"

# `skelpipe.prepare` is a package, and callable: see there.
_HOMES = {
    "Classifier": "skelpipe.train.inference",
    "Dataset": "skelpipe.dataset",
    "Encoder": "skelpipe.train.inference",
    "Layout": "skelpipe.skeleton",
    "Loader": "skelpipe.loader",
    "Stream": "skelpipe.loader",
    "chain": "skelpipe.augment.chain",
}


def __getattr__(name: str) -> Any:
    if name == "prepare":
        return import_module("skelpipe.prepare")
    if name not in _HOMES:
        raise AttributeError(f"module 'skelpipe' has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
