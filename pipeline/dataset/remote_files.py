"""The files of a remote dataset: its card, and its data files, fetched whole, verified and memory-mapped."""

import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from skelpipe.dataset.card import CARD, parse_card
from skelpipe.dataset.fetch import fetch, write_all
from skelpipe.dataset.inventory import DataFile, inventory
from skelpipe.errors import DatasetError, SkelpipeError, UsageError
from skelpipe.mapped_files import map_open_file
from skelpipe.storage.cache import FULL, Cache, NoRoomError
from skelpipe.storage.filesystem import Filesystem
from skelpipe.storage.reread import read_parsed
from skelpipe.storage.worker_threads import WorkerThreads

__all__ = ["CACHE_BYTES", "TEMPORARY_BYTES", "RemoteFiles", "open_remote"]

CACHE_BYTES = 200 * 10**9  # of a cache folder, by default
TEMPORARY_BYTES = 8 * 10**9  # of temporary files, by default, where there is no cache folder
MEMORY_BYTES = 2 << 30  # held in memory at most, where the disk is full
AT_ONCE = 4  # files fetched side by side
CARD_SECONDS = 30.0  # between two checks that the card did not change


def open_remote(filesystem: Filesystem, key: str, cache: str | Path | None, size: int | None) -> "RemoteFiles":
    """Read the card of a remote dataset and return its files; `key` is a hash of its URL (see `url_key`).

    `cache` and `size` are as in `Dataset.open`. Raises DatasetError where there is no card or it is damaged,
    UsageError for a size below 1.
    """
    if size is not None and size < 1:
        raise UsageError(f"--cache-size is {size}: it must be at least one byte")
    store = None if cache is None else Cache(Path(cache), size or CACHE_BYTES)
    content = None if store is None else store.card(key)
    if content is not None:
        with suppress(DatasetError):  # a cached card that is damaged is fetched again
            return RemoteFiles(filesystem, parse_card(content, filesystem), store, size or CACHE_BYTES, key)
    if (read := _read_card(filesystem)) is None:
        raise DatasetError(f"{filesystem}: no {CARD} here: not a dataset, or one that is not finished")
    content, card = read
    files = RemoteFiles(filesystem, card, store, size or (CACHE_BYTES if store else TEMPORARY_BYTES), key)
    if store is not None:
        store.keep_card(key, content)
    return files


def _read_card(filesystem: Filesystem) -> tuple[bytes, Mapping[str, Any]] | None:
    """Return the card's bytes and its content, None where there is no card."""
    try:
        return read_parsed(filesystem, CARD, lambda content: parse_card(content, filesystem))
    except DatasetError:
        raise
    except SkelpipeError:
        if filesystem.size(CARD) is None:  # raises an error if the server cannot be reached
            return None
        raise


class RemoteFiles:
    """The data files of one remote dataset, from the cache or the server; safe to use from many threads.

    `size` is how many bytes the cache, or all temporary files together, may hold. A mapped file stays as long as
    its array, or a view of it, exists. Temporary files have no name: a process that is killed leaves nothing. The
    cache stores the card under `key`.
    """

    def __init__(
        self, filesystem: Filesystem, card: Mapping[str, Any], cache: Cache | None, size: int, key: str
    ) -> None:
        self.filesystem, self.card, self.cache, self.size, self._key = filesystem, card, cache, size, key
        self.threads = WorkerThreads(AT_ONCE, "skelpipe-fetch")
        self._listed = {file.name: file for file in inventory(card)}
        self._confirmed = time.monotonic()
        self._in_memory = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        cache = self.cache and (self.cache.folder, self.cache.size)
        return _rebuilt, (self.filesystem, self.card, cache, self.size, self._key)

    def file(self, name: str) -> DataFile:
        """Return the card's entry of a file."""
        try:
            return self._listed[name]
        except KeyError:
            raise DatasetError(f"{self.filesystem}/{CARD}: does not list {name}") from None

    def read(self, name: str) -> bytes:
        """Return a small file's bytes."""
        with self._opened(self.file(name)) as file:
            return file.read()

    def map(self, name: str) -> np.ndarray:
        """Return a file's bytes, uint8, read-only: mapped from the cache or a temporary file."""
        try:
            with self._opened(self.file(name)) as file:
                return map_open_file(file, f"{self.filesystem}/{name}")  # keeps the file locked
        except NoRoomError as error:
            return self._into_memory(self.file(name), error)

    def confirm(self, *, now: bool = False) -> None:
        """Raise DatasetError if the dataset was replaced by another one since it was opened.

        Asks the server at most every CARD_SECONDS, and in any case if `now`.
        """
        with self._lock:
            if not now and time.monotonic() - self._confirmed < CARD_SECONDS:
                return
            self._confirmed = time.monotonic()
        read = _read_card(self.filesystem)
        digest = None if read is None else read[1]["digest"]
        if digest != self.card["digest"]:
            if self.cache is not None:
                self.cache.drop_card(self._key)  # else it would be used for a day
            found = "no card any more" if digest is None else f"digest {digest[:12]}"
            raise DatasetError(
                f"{self.filesystem}: the dataset was replaced since its card was read: it had digest "
                f"{self.card['digest'][:12]}, now there is {found}; start a new run on the current one"
            )

    def _opened(self, file: DataFile) -> IO[bytes]:
        """Return a verified file, open at its start."""
        cache = self.cache
        if cache is None:
            return self._temporary(file)
        found = cache.find(file.sha256, file.size)
        if found is not None:
            return found
        with cache.filling(file.sha256):
            found = cache.find(file.sha256, file.size)  # another process may have fetched it meanwhile
            if found is not None:
                return found
            self.confirm()
            if file.size is None:
                return self._opened_small(file, cache)
            return cache.store(file.sha256, file.size, partial(self._fetch, file))

    def _opened_small(self, file: DataFile, cache: Cache) -> IO[bytes]:
        """Fetch a file whose size is not in the card; use it uncached where the cache has no room."""
        fetched = tempfile.SpooledTemporaryFile(max_size=64 << 20)  # noqa: SIM115
        size = self._fetch(file, fetched)
        fetched.seek(0)
        content = fetched.read(size)
        fetched.seek(0)
        with suppress(NoRoomError):
            return cache.store(file.sha256, size, lambda out: write_all(out, content))
        return fetched

    def _temporary(self, file: DataFile) -> IO[bytes]:
        self.confirm()
        try:
            out = tempfile.TemporaryFile(prefix="skelpipe-", buffering=0)  # noqa: SIM115
            try:
                self._fetch(file, out)
                out.seek(0)
            except BaseException:
                out.close()
                raise
        except OSError as error:
            folder = tempfile.gettempdir()
            kind = NoRoomError if error.errno in FULL else SkelpipeError
            raise kind(
                f"{folder}: cannot take {self.filesystem}/{file.name}: {error.strerror or error}; "
                "name a folder with room with --cache (or TMPDIR)"
            ) from None
        return out

    def _into_memory(self, file: DataFile, reason: NoRoomError) -> np.ndarray:
        """Fetch a file into memory, because the disk has no room; above MEMORY_BYTES in total raise the reason."""
        assert file.size is not None, "only files whose size is in the card are mapped"
        with self._lock:
            self._in_memory += file.size
            if self._in_memory > MEMORY_BYTES:
                self._in_memory -= file.size
                raise SkelpipeError(f"{reason}; and {MEMORY_BYTES:,} bytes are held in memory already")
        block = np.empty(file.size, np.uint8)
        weakref.finalize(block, self._release, file.size)
        self._fetch(file, _Memory(block))
        return block

    def _release(self, size: int) -> None:
        with self._lock:
            self._in_memory -= size

    def _fetch(self, file: DataFile, out: Any) -> int:
        return fetch(self.filesystem, file, out, partial(self.confirm, now=True))


class _Memory:
    """A file that writes into an array. Bytes beyond its end are dropped; the sha256 then differs."""

    def __init__(self, block: np.ndarray) -> None:
        self._block, self._at = block, 0

    def seek(self, at: int) -> int:
        self._at = at
        return at

    def write(self, content: memoryview) -> int:
        taken = content[: max(0, len(self._block) - self._at)]
        self._block[self._at : self._at + len(taken)] = np.frombuffer(taken, np.uint8)
        self._at += len(content)
        return len(content)

    def truncate(self, size: int) -> int:
        return size


def _rebuilt(
    filesystem: Filesystem, card: Mapping[str, Any], cache: tuple[Path, int] | None, size: int, key: str
) -> RemoteFiles:
    return RemoteFiles(filesystem, card, None if cache is None else Cache(*cache), size, key)
