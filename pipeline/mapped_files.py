"""Files mapped into memory, read-only: no descriptor stays open, and a file that fails is an error with its name.

A mapped file that becomes shorter, or that the disk or the server no longer reads, would end the process by SIGBUS
(see `skelpipe.bus_errors`). What is computed from mapped bytes is therefore computed by `reading`, which notices
that and maps the file again if it is still the same one, as after a stale handle of NFS.
"""

import ctypes
import errno
import mmap
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import IO, Any, TypeVar

import numpy as np

from skelpipe.bus_errors import FAULT, START, FaultTable, libc
from skelpipe.errors import DatasetError
from skelpipe.untrusted import require_plain

__all__ = ["MOST", "confirm", "map_file", "map_open_file", "reading"]

R = TypeVar("R")

MOST = 32_768  # files mapped at a time; Linux allows a process 65,530 maps by default
MAP_FIXED = 0x10
KEPT_SECONDS = 0.05  # between two looks whether the signal is still ours
STALE = getattr(errno, "ESTALE", 0)

_lock = threading.RLock()
_files: "weakref.WeakValueDictionary[int, _Mapped]" = weakref.WeakValueDictionary()  # by row of the table
_shared: "weakref.WeakValueDictionary[tuple[int, ...], _Mapped]" = weakref.WeakValueDictionary()
_kept = 0.0  # when the signal was last known to be ours
_mended = 0  # faults that are dealt with
_made: FaultTable | None = None  # with the first file that is mapped
if hasattr(os, "register_at_fork"):  # a fork while another thread maps a file would leave it locked for ever
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def map_file(path: PurePath | str) -> np.ndarray:
    """Return a file's bytes, uint8, read-only; two arrays of one file share its memory.

    Raises DatasetError where it cannot be read or is empty.
    """
    try:
        descriptor = _opened(str(path))
        try:
            return _map(descriptor, str(path), str(path), watched=True)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None


def map_open_file(file: IO[bytes], label: str) -> np.ndarray:
    """Return the bytes of an open file, uint8, read-only; it may be closed. Messages call it `label`.

    Its locks last as long as the array, on Linux. OSError where it cannot be mapped.
    """
    path = os.fspath(file.name) if isinstance(file.name, str | os.PathLike) else None  # temporary files have none
    return _map(file.fileno(), path, label, watched=False)


def reading(action: Callable[[], R]) -> R:
    """Return what `action` computes from mapped files, computed again where one of them failed meanwhile.

    Raises DatasetError with the name of a file that cannot be read. `action` must be repeatable.
    """
    table = _made
    if table is None:
        return action()
    _keep(table)
    while True:
        before = table.faults
        failed = _mend() if before != _mended else []
        try:
            result = action()
        except Exception:  # perhaps because of the zeros
            if table.faults == before:
                raise
        else:
            if table.faults == before:
                return result
        with _lock:
            if again := [mapped for mapped in failed if mapped.fault]:
                raise again[0].failure()


def confirm(arrays: Iterable[np.ndarray]) -> None:
    """Raise DatasetError if a local file that these arrays show was removed, or overwritten in place.

    A file that another one has replaced is still read as it was.
    """
    for mapped in {id(found): found for array in arrays if (found := _mapped_file(array)) is not None}.values():
        if mapped.watched and (text := mapped.changed()):
            raise DatasetError(f"{mapped.label}: {text}")


class _Mapped:
    """One mapped file. An array of its bytes keeps it alive."""

    def __init__(self, descriptor: int, path: str | None, label: str, watched: bool) -> None:
        self.path, self.label, self.watched = path, label, watched
        self.facts = os.fstat(descriptor)
        self.size, self.failed_at, self.lost = self.facts.st_size, 0, False
        _table().keep()
        rows = _table().rows
        free = rows[:-1, START] == 0
        self.row = int(free.argmax())
        if not free[self.row]:
            raise OSError(
                errno.ENOMEM, f"more than {MOST:,} files would be mapped; prepare larger shards (--shard-size)"
            )
        self.address = _mapped_at(0, self.size, descriptor, mmap.MAP_SHARED)
        rows[self.row] = 0, self.address + self.size, 0
        rows[self.row, START] = self.address
        weakref.finalize(self, _unmap, self.row, self.address, self.size).atexit = False

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "data": (self.address, True), "shape": (self.size,), "typestr": "|u1"}

    @property
    def fault(self) -> int:
        """The address that could not be read, 0 if all could."""
        return int(_table().rows[self.row, FAULT])

    def mend(self) -> None:
        """Map the file again, to the same place, if it is the same as before; else let all reading of it fail."""
        self.failed_at = self.fault - self.address
        same = self.path is not None and not self.changed()
        _table().rows[self.row, FAULT] = 0  # before it is mapped: from then on it may fail again
        if same:
            try:
                self._map_again(_opened(str(self.path)))
                self.lost = False
                return
            except OSError:
                pass
        self.lost = True
        self._map_again(os.memfd_create("skelpipe-lost"))  # of no bytes

    def _map_again(self, descriptor: int) -> None:
        try:
            _mapped_at(self.address, self.size, descriptor, mmap.MAP_SHARED | MAP_FIXED)
        finally:
            os.close(descriptor)

    def changed(self) -> str:
        """Say what has happened to the file since it was mapped; empty if nothing has."""
        if self.path is None:
            return ""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return "was removed while it was in use"
        except OSError as error:
            return f"can no longer be read: {error.strerror}"
        if (now.st_dev, now.st_ino) != (self.facts.st_dev, self.facts.st_ino) and not self.fault:
            return ""  # another file has its name, and this one is read to the end
        if now.st_size != self.size:
            return f"was changed while it was in use: it had {self.size:,} bytes, now it has {now.st_size:,}"
        if now.st_mtime_ns != self.facts.st_mtime_ns:
            return "was overwritten while it was in use"
        return ""

    def failure(self) -> DatasetError:
        """Return the error of a file that could not be read."""
        return DatasetError(f"{self.label}: {self.changed() or self._why_unreadable()}")

    def _why_unreadable(self) -> str:
        where = f"cannot be read at byte {self.failed_at:,}"
        if self.path is None:
            return f"{where}: its temporary file fails (a broken disk?)"
        try:
            descriptor = _opened(self.path)
            try:
                os.pread(descriptor, 1, self.failed_at)  # on Linux alone is a failing map noticed
            finally:
                os.close(descriptor)
        except OSError as error:
            return f"{where}: {error.strerror}"
        return f"{where}: the disk or the server failed twice"


def _keep(table: FaultTable) -> None:
    """Keep the signal ours; that is asked now and then, since it takes as long as to copy a clip."""
    global _kept  # noqa: PLW0603
    now = time.monotonic()
    if now - _kept > KEPT_SECONDS:
        _kept = now
        table.keep()


def _table() -> FaultTable:
    global _made  # noqa: PLW0603
    if _made is None:
        with _lock:
            _made = _made or FaultTable(MOST)
    return _made


def _map(descriptor: int, path: str | None, label: str, *, watched: bool) -> np.ndarray:
    facts = os.fstat(descriptor)
    if not facts.st_size:
        raise OSError(errno.EINVAL, "the file is empty")
    if sys.platform == "win32":  # no mapped file can be changed there, and descriptors are not scarce
        return np.memmap(path or os.fdopen(os.dup(descriptor), "rb"), np.uint8, mode="r").view(np.ndarray)
    key = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    with _lock:
        mapped = _shared.get(key)
        if mapped is None or mapped.path != path or mapped.fault or mapped.lost:
            mapped = _Mapped(descriptor, path, label, watched)
            _files[mapped.row] = _shared[key] = mapped
        return np.asarray(mapped)


def _opened(path: str) -> int:
    """Open a file for reading; once more where the handle that the system had kept is stale (NFS)."""
    try:
        return _opened_once(path)
    except OSError as error:
        if error.errno != STALE:
            raise
        return _opened_once(path)


def _opened_once(path: str) -> int:
    require_plain(path)
    return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))


def _mapped_file(array: np.ndarray) -> "_Mapped | None":
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, _Mapped) else None


def _mend() -> list[_Mapped]:
    """Map files that failed again, before anything is read; return those that are to fail at most once more."""
    global _mended  # noqa: PLW0603
    if _table().faults == _mended:
        return []
    with _lock:
        faults = _table().faults
        failed = [mapped for mapped in list(_files.values()) if mapped.fault]
        for mapped in failed:
            mapped.mend()
        _mended = faults
        return failed


def _mapped_at(address: int, size: int, descriptor: int, flags: int) -> int:
    """Map an open file without keeping it open, as Python's own `mmap` would; return where it is."""
    found = libc().mmap(address, size, mmap.PROT_READ, flags, descriptor, 0)
    if found in (None, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(found)


def _unmap(row: int, address: int, size: int) -> None:
    _table().rows[row] = 0
    libc().munmap(address, size)
