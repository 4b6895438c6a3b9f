"""Hashing shards when this machine first uses them, beside the work that uses them.

A local shard is compared with the card's sha256 once: when it is first opened, on a thread, so that the stream
does not wait. What was hashed is remembered for all processes by inode, size, times and sha256, in the folder
`$XDG_CACHE_HOME/skelpipe/hashed`, by default in `~/.cache`; a file that changes is hashed again.
"""

import atexit
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from skelpipe.dataset.inventory import DataFile, inventory
from skelpipe.errors import DatasetError, UsageError
from skelpipe.files import size_and_hash_of
from skelpipe.locks import locked
from skelpipe.untrusted import require_plain

__all__ = ["CHECK", "FirstUse", "at_end", "checks_shards", "is_ending", "remember", "remembered"]

CHECK = "SKELPIPE_CHECK_SHARDS"
INLINE_BYTES = 32 << 20  # hashed at once, within some tens of milliseconds
LONGEST_RECORD = 4 << 20  # bytes, after which a record of hashed files begins anew

ENDING_SECONDS = 2.0
CHUNK = 8 << 20  # bytes; per chunk the thread takes Python's lock twice

_hashed: set[str] = set()  # by this process
_ending = threading.Event()
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a fork while another thread holds it would leave it locked for ever
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def checks_shards(said: bool | None) -> bool:
    """Return the setting: as `said`, else `$SKELPIPE_CHECK_SHARDS`, yes or no, else yes; UsageError for others."""
    if said is not None:
        return said
    value = os.environ.get(CHECK, "") or "yes"
    if value not in ("yes", "no"):
        raise UsageError(f"{CHECK}={value}: it can be yes or no")
    return value == "yes"


class FirstUse:
    """The files of one local dataset, each hashed when it is first expected; safe to use from threads.

    Of several processes one hashes at a time; the others then find what it has hashed.
    """

    def __init__(self, folder: Path, card: Mapping[str, Any]) -> None:
        self._folder = folder
        self._card = card
        self._record = _record_of(card["digest"])
        self._expected: set[str] = set()
        self._waiting: deque[DataFile] = deque()
        self._thread: threading.Thread | None = None
        self._damage: str | None = None

    @cached_property
    def _files(self) -> dict[str, DataFile]:
        return {file.name: file for file in inventory(self._card)}

    def expect(self, names: Iterable[str]) -> None:
        """Hash these files unless that was done, small ones at once; DatasetError where one is known to differ."""
        with _lock:
            new = [self._files[name] for name in names if name in self._files and name not in self._expected]
            self._expected.update(file.name for file in new)
            new = self._unknown(new)
            if sum(file.most for file in new) <= INLINE_BYTES:
                self._note(filter(None, map(self._hash, new)))
            elif new:
                self._waiting.extend(new)
                if self._thread is None or not self._thread.is_alive():  # it does not survive a fork
                    self._thread = threading.Thread(target=self._work, name="skelpipe-hash", daemon=True)
                    self._thread.start()
                    at_end(self._thread)
        self.require()

    def require(self) -> None:
        """Raise DatasetError if a file was found to differ from the card."""
        if self._damage is not None:
            raise DatasetError(self._damage)

    def finish(self) -> None:
        """Wait until all expected files are hashed; DatasetError if one differs from the card."""
        thread = self._thread
        if thread is not None:
            thread.join()
        self.require()

    def _work(self) -> None:
        # At the usual priority: a thread of a lower one would hold Python's lock while it waits for a core.
        with ExitStack() as held:
            with suppress(OSError):
                self._record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                held.enter_context(locked(self._record.with_suffix(".lock"), private=True))
            while self._damage is None and not _ending.is_set():
                with _lock:
                    if not self._waiting:
                        self._thread = None
                        return
                    file = self._waiting.popleft()
                if self._unknown([file]) and (line := self._hash(file)) is not None:
                    self._note([line])

    def _hash(self, file: DataFile) -> str | None:
        """Hash one file; return its line of the record, or None where it differs, which is noted."""
        path = self._folder / file.name
        try:
            line = _line(path, file)
            _, sha256 = size_and_hash_of(_pieces(path))
            if _ending.is_set():
                return None
            same = sha256 == file.sha256 and _line(path, file) == line
        except OSError as error:
            self._damage = f"{path}: cannot be read: {error.strerror or error}"
            return None
        if same:
            return line
        self._damage = (
            f"{path}: damaged, or changed since it was prepared: its sha256 differs from the card"
            " (skelpipe verify names every such file)"
        )
        return None

    def _unknown(self, files: Sequence[DataFile]) -> list[DataFile]:
        known = _hashed | _read(self._record) if files else _hashed
        found = []
        for file in files:
            try:
                if _line(self._folder / file.name, file) not in known:
                    found.append(file)
            except OSError:
                found.append(file)
        return found

    def _note(self, lines: Iterable[str]) -> None:
        """Remember hashed files; where the cache folder cannot be written, in this process only."""
        _note(self._record, list(lines))


def remembered(digest: str) -> set[str]:
    """Return what this user or process has hashed of the dataset with this digest, one line each."""
    return _hashed | _read(_record_of(digest))


def remember(digest: str, lines: Sequence[str]) -> None:
    """Remember what was hashed of a dataset; where the cache folder cannot be written, in this process only."""
    _note(_record_of(digest), lines)


def at_end(thread: threading.Thread) -> None:
    """Let this thread end before the interpreter takes down what it uses; it must look at `is_ending` often."""
    atexit.register(_end, thread)


def is_ending() -> bool:
    """Whether the process is about to end."""
    return _ending.is_set()


def _note(record: Path, new: Sequence[str]) -> None:
    _hashed.update(new)
    if new:
        with suppress(OSError):
            record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            long = record.exists() and record.stat().st_size > LONGEST_RECORD
            with open(record, "w" if long else "a", encoding="ascii") as file:
                file.write("".join(f"{line}\n" for line in new))


def _record_of(digest: str) -> Path:
    return _records() / f"{digest}.txt"


def _pieces(path: Path) -> Iterator[bytes]:
    require_plain(path)
    with open(path, "rb", buffering=0) as file:
        while not _ending.is_set() and (piece := file.read(CHUNK)):
            yield piece


def _end(thread: threading.Thread) -> None:
    """Let a thread end before the interpreter takes down what it uses."""
    _ending.set()
    thread.join(ENDING_SECONDS)


def _records() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home or Path("~/.cache").expanduser()) / "skelpipe" / "hashed"


def _read(path: Path) -> set[str]:
    try:
        return set(path.read_text("ascii").splitlines()) if path.stat().st_size <= 2 * LONGEST_RECORD else set()
    except (OSError, UnicodeDecodeError):
        return set()


def _line(path: Path, file: DataFile) -> str:
    """Return what identifies a file's content on this machine, without reading it, and the hash it should have."""
    facts = os.stat(path)
    return f"{facts.st_dev} {facts.st_ino} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {file.sha256}"
