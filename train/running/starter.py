"""The weights that skelpipe brings along, for a first look at recordings of 25 joints: trained on synthetic clips.

`tests/benchmarks/starter.py` made them. Their classifier knows sixteen gestures, such as "crouch".
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["STARTER", "announce", "weights_path"]

STARTER: Final = "starter"
FILE: Final = Path(__file__).with_name("starter.safetensors")
NOTE: Final = (
    "starter weights: a small network, trained on synthetic clips of 16 gestures; good for a first look, "
    "not for results: for these name your own with --checkpoint"
)


def weights_path(source: str) -> str:
    """Return the path of weights; `starter` are skelpipe's own, unless a file or folder here has that name."""
    return str(FILE) if source == STARTER and not Path(source).exists() else source


def announce(source: str, say: Callable[[str], None]) -> str:
    """Return the path of weights as `weights_path` does, and say so where they are skelpipe's own."""
    path = weights_path(source)
    if path == str(FILE):
        say(NOTE)
    return path
