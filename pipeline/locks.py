"""Locks between the processes of a machine, on every system, and files that must not be removed while in use.

The system releases the locks of a process that is killed. Windows refuses by itself to remove a file that is open
or mapped; elsewhere an open file gets a shared lock for that.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["keep", "locked", "remove_folder", "remove_unused"]

POLL_SECONDS = 0.02  # between two looks at a lock that another process holds


@contextmanager
def locked(path: Path, *, wait: bool = True, private: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, which stays when it is released; only one process, and one thread of it, can.

    Where another holds it, wait, or raise BlockingIOError if not `wait`. A `private` file can be read by its user
    only. OSError where the file cannot be made or locked.
    """
    mode = 0o600 if private else 0o644
    lock = FileLock(path, mode=mode, thread_local=False, poll_interval=POLL_SECONDS)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise BlockingIOError(f"{path} is locked") from None
    try:
        yield
    finally:
        lock.release()


def remove_folder(folder: Path, held: ExitStack) -> None:
    """Remove a folder with a lock file in it that `held` releases: before that, so that nobody gets the lock of a
    folder that is about to go. Windows, which removes no open file, removes the rest afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    left = folder.exists()
    held.close()
    if left:
        shutil.rmtree(folder)


def keep(file: IO[bytes] | int) -> None:
    """Keep `remove_unused` from removing this open file as long as it is open, or mapped."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_SH)


def remove_unused(path: Path) -> bool:
    """Remove a file that no process keeps; return whether it was removed."""
    try:
        if fcntl is None:
            path.unlink()
            return True
        with open(path, "rb+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:
        return False
    return True
