"""The weights of streams as a command line names them; nothing here imports numpy."""

import math

from skelpipe.errors import UsageError
from skelpipe.front.descriptions import counted

__all__ = ["check_count", "read_weights"]


def read_weights(text: str) -> dict[str, float] | tuple[float, ...]:
    """Read `joint=0.6,bone=0.6,motion=0.4`, by view, or `0.6,0.6,0.4`, in the order of the streams.

    Raises UsageError for what is no weight, and where all are 0.
    """
    parts = [part.strip() for part in text.split(",")]
    named = [part for part in parts if "=" in part]
    if named and len(named) < len(parts):
        raise UsageError(f"--weights {text}: either all weights have names or none")
    by_view = {view.strip(): _weight(value, text) for view, _, value in (part.partition("=") for part in named)}
    values = tuple(by_view.values()) or tuple(_weight(part, text) for part in parts)
    if not any(values):
        raise UsageError(f"--weights {text}: all weights are 0")
    return by_view or values


def check_count(text: str, streams: int) -> None:
    """Raise UsageError where a text names more or fewer weights than there are streams."""
    if (count := len(read_weights(text))) != streams:
        advice = "give one for each, in the order of the streams"
        raise UsageError(f"--weights {text}: {counted(count, 'weight')} for {streams} streams: {advice}")


def _weight(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UsageError(f"--weights {whole}: {text.strip()!r} is no weight of 0 or more")
    return value
