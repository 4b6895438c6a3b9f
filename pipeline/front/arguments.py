"""Arguments of the front door, checked: a sentence that says what is possible, instead of an error from within."""

from operator import index
from os import PathLike
from typing import TYPE_CHECKING, Any

from skelpipe.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["given", "path_text", "require_rows", "row_numbers", "whole_number"]

LONGEST = 60  # characters of a value that a message shows


def given(value: Any) -> str:
    """Return in words what somebody gave, for messages: short, and without addresses of memory."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | int | float):
        return repr(value) if len(repr(value)) <= LONGEST else f"{repr(value)[: LONGEST - 3]}..."
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def whole_number(value: Any, name: str, least: int | None = None) -> int:
    """Return a whole number, of any type that is one; UsageError naming the argument where it is none or less."""
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        limit = "" if least is None else f", at least {least}"
        raise UsageError(f"{name} is {given(value)}; it must be a whole number{limit}")
    return number


def path_text(value: Any, what: str) -> str:
    """Return a path or URL as a text; UsageError naming `what` is expected where it is none, or empty."""
    if not isinstance(value, str | PathLike) or not str(value):
        raise UsageError(f"{what} is expected, not {given(value)}")
    return str(value)


def row_numbers(rows: Any) -> "np.ndarray":
    """Return rows as int64 [n]; UsageError where they are no whole numbers."""
    import numpy as np  # not needed to import this

    found = np.asarray(rows)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise UsageError(f"rows are a list of whole numbers, not {given(rows[0] if found.ndim == 1 else rows)}")
    return found.astype(np.int64, copy=False)


def require_rows(rows: "np.ndarray", count: int) -> None:
    """Raise IndexError unless rows, int64 [n], are numbers from 0 to `count` - 1."""
    if len(rows) and not (rows.min() >= 0 and rows.max() < count):
        raise IndexError(f"rows go from 0 to {count - 1}")
