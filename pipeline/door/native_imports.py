"""Signals that come while a native library loads wait until it is loaded.

Ctrl-C raises KeyboardInterrupt wherever Python is. In the initialisation of torch or pyarrow that may be below C++
code, which ends the process by SIGABRT; so may the error that SIGTERM raises.
"""

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from skelpipe.door.signals import PREEMPTING

if TYPE_CHECKING:  # importlib.abc takes longer to import than all of this
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["NATIVE", "holding", "native_imports_held"]

# The packages of skelpipe, and of its extras, that load native libraries, or call them while they are imported.
NATIVE: Final = frozenset(
    (
        "torch",
        "numpy",
        "pyarrow",
        "numba",
        "llvmlite",
        "scipy",
        "h5py",
        "safetensors",
        "isal",
        "pydantic",
        "pydantic_core",
        "matplotlib",
        "PIL",
        "sklearn",
        "onnx",
        "onnxruntime",
        "nvidia",
        "lightning",
        "mlflow",
        "wandb",
        "boto3",
    )
)


class _Held:
    """Whether signals are held back."""

    now = False


@contextmanager
def holding() -> Iterator[None]:
    """Hold Ctrl-C and the signals that end a command back inside; the first that came is delivered at the end."""
    if _Held.now or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *PREEMPTING)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    _Held.now = True
    try:
        for number in handlers:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _Held.now = False
        if came:
            signal.raise_signal(came[0])


class _Loader:
    """A loader that holds signals back while it loads."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        with holding():
            made: ModuleType | None = self.loader.create_module(spec)
            return made

    def exec_module(self, module: "ModuleType") -> None:
        module.__loader__ = self.loader  # as it is without all this
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        with holding():
            self.loader.exec_module(module)


class _Finder:
    """Finds native packages as the other finders do."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if _Held.now or name.partition(".")[0] not in NATIVE:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, _Finder):
                continue
            found = finder.find_spec(name, path, target)
            if found is not None:
                if hasattr(found.loader, "exec_module"):
                    found.loader = _Loader(found.loader)  # type: ignore[assignment]
                return found
        return None


@contextmanager
def native_imports_held() -> Iterator[None]:
    """Hold signals back inside whenever a native package is imported."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
