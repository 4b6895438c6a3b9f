"""Why the system refuses to write something, in words."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["FULL", "refusal", "why"]

QUOTA = getattr(errno, "EDQUOT", errno.ENOSPC)
FULL = frozenset({errno.ENOSPC, errno.EFBIG, QUOTA})  # there is no room for what is to be written
SAID = re.compile(r"No space left on device|File too large|Disk quota exceeded")  # in errors of other libraries
SHORT = re.compile(r"\d+ requested and \d+ written")  # NumPy says no more


def why(error: OSError) -> str:
    """Return in words why the system refused something."""
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    if error.errno == QUOTA:
        return "the quota of this user on that disk is used up"
    if error.errno == errno.EFBIG:
        return "the file would be larger than this process may write (ulimit -f) or the disk allows"
    if error.errno == errno.EROFS:
        return "the disk is read-only"
    return error.strerror or str(error)


def refusal(error: BaseException, folder: Path, needs: int | Callable[[], int] = 0) -> str | None:
    """Return in words why a file in `folder` was not written, or None where the system did not refuse it.

    Some libraries hide that the disk is full. `needs` is the size of the file in bytes, if it is known, or says
    it when called; what was written of the file must have been removed.
    """
    full = _full(error)
    if full is None:
        return why(error) if isinstance(error, OSError) else None
    size = _size(needs() if callable(needs) else needs) if needs else ""
    if full.errno != errno.ENOSPC:
        return f"{why(full)}: the file needs {size}" if size else why(full)
    try:
        free = _size(shutil.disk_usage(folder).free)
    except OSError:
        return f"{why(full)}: the file needs {size}" if size else why(full)
    if size:
        return f"{why(full)}: the file needs {size}, and {free} are free"
    return f"{why(full)}: the file needs more than the {free} that are free"


def _full(error: BaseException) -> OSError | None:
    """Return the error of the system that says there is no room, if that is at the bottom of an error."""
    at: BaseException | None = error
    for _ in range(8):
        if at is None:
            return None
        if isinstance(at, OSError) and at.errno in FULL:
            return at
        if (found := SAID.search(str(at))) is not None:
            names = {os.strerror(number): number for number in FULL}
            return OSError(names.get(found[0], errno.ENOSPC), found[0])
        if SHORT.search(str(at)) is not None:
            return OSError(0, "the disk is full, or the file would be larger than this process may write")
        at = at.__cause__ or at.__context__
    return None


def _size(number: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"
