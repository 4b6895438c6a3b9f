"""Released checkpoints of the papers, where a script takes a checkpoint."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from skelpipe.errors import UsageError
from skelpipe.models.released.checkpoint import ReleasedCheckpoint, load_released
from skelpipe.models.statefile import is_torch_file, read_content
from skelpipe.preprocess import CROSCLR
from skelpipe.train.running.provenance import ClipFacts, Provenance

__all__ = ["BODIES", "default_view", "embedder", "read_released", "released_provenance"]

BODIES = 2  # in every clip that the papers train on


def read_released(path: Path) -> ReleasedCheckpoint | None:
    """Return what a released checkpoint holds, or None for a file that skelpipe wrote; see `load_released`."""
    if not is_torch_file(path):
        return None
    content = read_content(path)
    if isinstance(content, dict) and "format" in content:
        return None
    return load_released(path)


def default_view(released: ReleasedCheckpoint, say: Callable[[str], None]) -> str:
    """Return the file's first view. A file of one encoder names none: then joint is assumed, and said."""
    if released.views:
        return released.views[0]
    say(f"{released.path} does not say which view it was trained on: taken as joint (--view says otherwise)")
    return "joint"


def embedder(released: ReleasedCheckpoint, view: str, features: str) -> nn.Module:
    """Return the map from clips to `h` or `z`; UsageError where the file has no head that makes z."""
    branch = released.branch(view)
    if features == "h":
        return branch.encoder
    if branch.head is None:
        raise UsageError(
            f"{released.path}: comes from a linear evaluation and has no projection head: pass --features h"
        )
    return nn.Sequential(branch.encoder, branch.head)


def released_provenance(released: ReleasedCheckpoint, view: str) -> Provenance:
    """Return what is known of the weights; they are those of `view` where the file names no view."""
    clips = ClipFacts(profile=CROSCLR, layout=released.layout.name, frames=released.frames, bodies=BODIES)
    return Provenance(clips=clips, view=view, views=released.views or (view,))
