"""Who writes a folder or a file: one process at a time, also of several machines that share a disk.

The owner's lock file says who it is. It is locked as far as the system does that, which tells whether the process
still lives where both run on one machine. Elsewhere the file's time tells: the owner renews it every few seconds.
"""

import errno
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

import click

from skelpipe.door.refusals import why
from skelpipe.door.visible import visible
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.untrusted import require_plain

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "Owner", "check_owned", "hold", "owned"]

LOCK = ".skelpipe.lock"
BEAT_SECONDS = 5.0  # between two renewals of the time of a lock file
WATCH_SECONDS = 20.0  # without a renewal, after which an owner on another machine has ended
SILENT_SECONDS = 60.0  # since the last renewal: it has ended, there is no need to watch
LOOK_SECONDS = 0.5  # between two looks while watching
LONGEST = 4096  # bytes of a lock file that are read
UNLOCKABLE = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@dataclass(frozen=True)
class Owner:
    """Who writes: the command, its process, the machine and its boot, the time it began, and a random word."""

    command: str
    process: int
    host: str
    boot: str
    since: str
    word: str

    @classmethod
    def myself(cls, command: str) -> "Owner":
        """Return the owner that this process is."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return cls(command, os.getpid(), socket.gethostname(), _boot(), since, secrets.token_hex(8))

    @classmethod
    def parsed(cls, content: bytes) -> "Owner | None":
        """Return the owner that the bytes of a file name; None where they are foreign or damaged."""
        try:
            plain: Any = json.loads(content)
            known = {entry.name: plain[entry.name] for entry in fields(cls)}
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        kinds = dict.fromkeys(known, str) | {"process": int}
        return cls(**known) if all(isinstance(known[name], kind) for name, kind in kinds.items()) else None

    def __str__(self) -> str:
        return visible(f"{self.command}: process {self.process} on {self.host}, since {self.since}")


class _Held:
    """A lock file that this process has, which it renews until it lets go."""

    def __init__(self, path: Path, file: FileIO, shown: Path) -> None:
        self.path, self.file, self.shown = path, file, shown
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="skelpipe-owner", daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with suppress(OSError):
                _touch(self.path, self.file)

    def is_there(self) -> bool:
        """Return whether the name still belongs to this lock file."""
        return _is_named(self.file, self.path)

    def let_go(self) -> None:
        self._over.set()
        self._thread.join()
        with suppress(OSError):
            if os.name == "nt":  # it removes no open file
                self.file.close()
                self.path.unlink(missing_ok=True)
            elif self.is_there():
                self.path.unlink()
        self.file.close()


_held: dict[Path, _Held] = {}


def hold(path: Path, *, file: bool = False) -> None:
    """Be the only one that writes `path` until the command that is running ends; outside of a command do nothing.

    See `owned` for the rest. A folder that this command holds already stays so.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return
    holding = context.meta.setdefault(__name__, set())
    if (lock := _lock_of(path, file).resolve()) not in holding:
        command = (context.info_name or "skelpipe").removesuffix(".py")
        context.with_resource(owned(path, command, file=file, say=lambda line: click.echo(line, err=True)))
        holding.add(lock)


@contextmanager
def owned(
    path: Path,
    command: str,
    *,
    file: bool = False,
    shown: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Be the only one that writes the folder `path`, or the `file` of that name; the folder is made.

    Raises UsageError, naming the owner, where another process writes there, and SkelpipeError where no lock file
    can be made; they call the path `shown`. The lock of an owner that has ended is taken over, and `say` told so.
    """
    lock, shown = _lock_of(path, file).resolve(), shown or path
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        opened = _acquired(lock, shown, command, say)
    except OSError as error:
        raise SkelpipeError(f"{shown}: cannot be written: {why(error)}") from None
    held = _held[lock] = _Held(lock, opened, shown)
    try:
        yield
    finally:
        del _held[lock]
        held.let_go()


def check_owned(path: Path, *, file: bool = False) -> None:
    """Raise SkelpipeError where `path`, which this process held, was removed since, or taken over by another."""
    held = _held.get(_lock_of(path, file).resolve())
    if held is None or held.is_there():
        return
    now = _read(held.path)
    if now is None:
        raise SkelpipeError(f"{held.shown}: was removed while it was written")
    raise SkelpipeError(f"{held.shown}: was taken over while this process did not answer, by {now}")


def _lock_of(path: Path, file: bool) -> Path:
    return path.with_name(f".{path.name}.lock") if file else path / LOCK


def _acquired(lock: Path, path: Path, command: str, say: Callable[[str], None]) -> FileIO:
    """Return the open lock file, once this process is its owner; UsageError if another one is."""
    try:
        require_plain(lock)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot be written: {lock.name} in it: {why(error)}") from None
    while True:
        opened = FileIO(os.open(lock, os.O_RDWR | os.O_CREAT, 0o644), "r+")
        try:
            locked = _try_lock(opened)
            before = _read(lock)
            if locked is False:
                raise UsageError(f"{path}: another {before or 'process'} is writing there")
            if not _is_named(opened, lock):
                opened.close()  # its owner has just removed it
                continue
            if before is not None:
                if (not locked or before.boot != _boot()) and not _has_ended(lock, before, say):
                    raise UsageError(f"{path}: another {before} is writing there")
                say(f"{path}: taken over from {before}, which has ended")
            me = Owner.myself(command)
            opened.seek(0)
            opened.truncate()
            opened.write(json.dumps(asdict(me)).encode())
            if _read(lock) != me:  # the other has no locks either, and came at the same moment
                raise UsageError(f"{path}: another process is writing there")
            return opened
        except BaseException:
            opened.close()
            raise


def _try_lock(opened: FileIO) -> bool | None:
    """Return whether the system has locked the file for this process; None where it cannot lock files."""
    try:
        if fcntl is not None:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            try:
                import msvcrt
            except ImportError:
                return None
            opened.seek(1 << 30)  # beyond what others read
            getattr(msvcrt, "locking")(opened.fileno(), getattr(msvcrt, "LK_NBLCK"), 1)  # noqa: B009
    except OSError as error:
        if fcntl is not None and error.errno in UNLOCKABLE:
            return None
        if fcntl is None or error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _has_ended(lock: Path, owner: Owner, say: Callable[[str], None]) -> bool:
    """Watch the lock file of an owner on another machine; return whether its time stays what it is."""
    seen = os.stat(lock).st_mtime_ns
    with tempfile.TemporaryFile(dir=lock.parent) as probe:  # by the clock of the disk, which all machines share
        if os.fstat(probe.fileno()).st_mtime_ns - seen > SILENT_SECONDS * 1e9:
            return True
    say(f"{lock.parent}: looking for {WATCH_SECONDS:.0f} s whether {owner} still writes there")
    until = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        with open(lock, "rb") as looked:  # opening it again asks the server
            if os.fstat(looked.fileno()).st_mtime_ns != seen:
                return False
    return True


def _read(lock: Path) -> Owner | None:
    """Return the owner that a lock file names; None for one that is empty, foreign or not there."""
    try:
        require_plain(lock)
        with open(lock, "rb") as file:
            return Owner.parsed(file.read(LONGEST))
    except OSError:
        return None


def _is_named(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


def _touch(path: Path, file: FileIO) -> None:
    os.utime(file.fileno() if os.utime in os.supports_fd else path)


def _boot() -> str:
    """Return what differs between machines, and between boots of one, where the system says it."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return socket.gethostname()
