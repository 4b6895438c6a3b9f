"""What others wrote: which text is a number, how much of it a message repeats, and what is a file of bytes.

Names, values and the words of libraries come from files and servers that anybody may have made. A message shows
them on one line, without characters that move a cursor or turn the direction of writing.
"""

import errno
import os
import reprlib
import stat
from pathlib import PurePath

from skelpipe.door.visible import visible

__all__ = ["described", "require_plain", "shown", "whole"]

MOST_DIGITS = 18  # an int64 always holds so many
VALUE = 40  # characters of a value in a message
TEXT = 160  # characters of a text in a message

_values = reprlib.Repr()
_values.maxlevel = 4
_values.maxlist = _values.maxtuple = _values.maxset = _values.maxdict = _values.maxarray = VALUE
_values.maxlong = _values.maxother = _values.maxstring = 4 * VALUE


def described(value: object) -> str:
    """Return a value as messages show it: short, on one line, and `nothing` for None."""
    if value is None:
        return "nothing"
    try:
        text = repr(value[:VALUE]) if isinstance(value, str | bytes) else _values.repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number of thousands of digits"
    longer = isinstance(value, str | bytes) and len(value) > VALUE
    return text if len(text) <= VALUE and not longer else f"{text[: VALUE - 3]}..."


def shown(text: object, most: int = TEXT) -> str:
    """Return a text, or the words of an error, as messages show it: at most so many characters, all printable."""
    whole_text = str(text)
    line = " ".join(whole_text[: 4 * most].split())
    line = visible(line)
    return line if len(line) <= most and len(whole_text) <= 4 * most else f"{line[: most - 3]}..."


def whole(text: str, most_digits: int = MOST_DIGITS) -> int | None:
    """Return the whole number that a text of ASCII digits is; None for any other text, and for too many digits.

    `int` would also take signs, blanks, underscores and the digits of all scripts, and fails at thousands of them.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= most_digits else None


def require_plain(path: PurePath | str) -> None:
    """Raise OSError, as `open` does, where there is no file of bytes: a pipe would be waited for without end.

    Archives and disks of others may hold pipes and devices under the names of a dataset's files.
    """
    kind = os.stat(path).st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(kind):
        raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
