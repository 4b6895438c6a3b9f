"""Files of the papers' authors, where a script takes a checkpoint."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.models.authors import Loaded, load_checkpoint
from skelpipe.models.statefile import read_content
from skelpipe.preprocess import CROSCLR

__all__ = ["PERSONS", "check_fit", "default_view", "embedder", "read_released"]

PERSONS = 2  # of every clip the papers train on
SUFFIXES = (".pt", ".pth")


def read_released(path: Path) -> Loaded | None:
    """Return what a file of the papers' code holds, or None for one of our own; see `load_checkpoint`."""
    if path.suffix not in SUFFIXES:
        return None
    content = read_content(path)
    if isinstance(content, dict) and "format" in content:
        return None
    return load_checkpoint(path)


def default_view(loaded: Loaded, say: Callable[[str], None]) -> str:
    """Return the file's first view. A file of one encoder names none: joint is then taken on trust, and said."""
    if loaded.views:
        return loaded.views[0]
    say(f"{loaded.path} does not say which view it was trained on: taken as joint (--view says otherwise)")
    return "joint"


def check_fit(loaded: Loaded, dataset: Dataset, view: str, say: Callable[[str], None]) -> None:
    """Raise UsageError, field by field, where the networks were made for other clips than a dataset's view."""
    loaded.branch(view)
    wanted = {
        "frames": (loaded.frames, dataset.shape[1]),
        "persons": (PERSONS, dataset.shape[3]),
        "layout": (loaded.layout.name, dataset.layout.name),
    }
    others = [f"{name}: trained on {was}, asked for {now}" for name, (was, now) in wanted.items() if was != now]
    if others:
        raise UsageError(f"{loaded.path} does not fit {dataset.path}: {'; '.join(others)}")
    if dataset.profile != CROSCLR:
        say(f"trained on clips preprocessed as {CROSCLR}, {dataset.path} is {dataset.profile}")


def embedder(loaded: Loaded, view: str, features: str) -> nn.Module:
    """Return the map from clips to `h` or `z`; UsageError where the file has no head that makes z."""
    branch = loaded.branch(view)
    if features == "h":
        return branch.encoder
    if branch.head is None:
        raise UsageError(
            f"{loaded.path}: comes from a linear evaluation and has no projection head: pass --features h"
        )
    return nn.Sequential(branch.encoder, branch.head)
