"""What `repr` says of the objects of the front door: facts for people, never an error."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar

__all__ = ["counted", "described_safely", "shape_text", "short_digest"]

T = TypeVar("T")

DIGITS = 8  # of a digest


def described_safely(text: Callable[[T], str]) -> Callable[[T], str]:
    """Make `text`, which describes an object, a `__repr__` that never raises.

    Debuggers and tracebacks call it of objects that are half built, or that were given something odd.
    """

    @wraps(text)
    def shown(self: T) -> str:
        try:
            return text(self)
        except Exception:
            return f"<{type(self).__name__}, not complete>"

    return shown


def short_digest(digest: str) -> str:
    """Return the first digits of a digest, of each where several are joined by `+`."""
    return "+".join(each[:DIGITS] for each in digest.split("+"))


def shape_text(shape: Sequence[int]) -> str:
    """Return the shape of clips, such as `[N,3,64,25,2]`."""
    return f"[N,{','.join(map(str, shape))}]"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 clip`, `1,024 clips`, `2 classes`."""
    return f"{count:,} {noun if count == 1 else noun + ('es' if noun.endswith(('s', 'tch')) else 's')}"
