"""Files at addresses, for an import: fetched whole, under their own names, into a folder for the run."""

import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import PART, replacing
from skelpipe.locks import locked, remove_folder
from skelpipe.progress import progress
from skelpipe.raw.web_shards import expand_shards
from skelpipe.storage import Filesystem, local_folder, open_file, retry, shown_url
from skelpipe.storage.deadlines import give_up_when, result_of
from skelpipe.storage.worker_threads import WorkerThreads

__all__ = ["Fetched", "fetched"]

T = TypeVar("T")

AT_ONCE = 4  # files fetched side by side
TIMES = 3  # attempts before a file counts as cut off on the server
CONTENT = "imported"  # the folder that holds the files: a dataset may be named after it
LOCK = "lock"
ADDRESS = re.compile(r"(?i)(?!file:)[a-z][a-z0-9+.-]*://|\s*pipe:")


@dataclass(frozen=True)
class _Source:
    """A remote file: where it is, its address for messages, its size in bytes, and the path that it gets."""

    filesystem: Filesystem
    name: str
    shown: str
    size: int
    path: Path


@dataclass(frozen=True)
class Fetched:
    """Local paths of all files of an import, and the addresses of those that were fetched, by path."""

    paths: list[str]
    addresses: dict[str, str]

    def named(self, text: str) -> str:
        """Return a text for the user: fetched files are called by their addresses."""
        for path in sorted(self.addresses, key=len, reverse=True):
            text = text.replace(path, self.addresses[path])
        return text


@contextmanager
def fetched(words: Sequence[str], beside: Path | None, *, quiet: bool = False) -> Iterator[Fetched]:
    """Fetch the files at addresses among `words` (paths, addresses, brace patterns of either); yield local paths.

    The files are in a new folder in `beside`, which is removed at the end; after an error it stays, and the same
    words go on with the files that are whole. Without `beside` it is a temporary folder, which never stays.
    Nothing is fetched unless all files exist and there is room for them. Raises UsageError for what is no address
    and for `pipe:`, SkelpipeError where a file cannot be fetched or stored. Errors raised inside, too, name
    addresses.
    """
    names = [name for word in words for name in _expanded(word)]
    if not any(ADDRESS.match(name) for name in names):
        yield Fetched(names, {})
        return
    with _folder(names, beside) as folder:
        stopped = threading.Event()
        threads = WorkerThreads(AT_ONCE, "skelpipe-fetch")
        made = Fetched([], {})
        try:
            sources = _located(names, folder / CONTENT, made, threads, stopped)
            waiting = [source for source in sources if not _is_whole(source)]
            _require_room(waiting, folder)
            jobs = [_submit(threads, stopped, partial(_fetch, source)) for source in waiting]
            for job in progress(jobs, f"fetch into {folder}: files", len(jobs), quiet=quiet):
                result_of(job)
            yield made
        except SkelpipeError as error:
            stays = beside is not None and any(path.is_file() for path in (folder / CONTENT).rglob("*"))
            note = f" (fetched files stay in {folder} for the next attempt)" if stays else ""
            raise type(error)(made.named(str(error)) + note) from None
        finally:
            stopped.set()


def _expanded(word: str) -> list[str]:
    """Return the names that a word stands for. A path that exists is never a pattern."""
    if word.lower().startswith("file://"):
        word = str(local_folder(word))
    if ADDRESS.match(word) or ("{" in word and not Path(word).exists()):
        return expand_shards(word)
    return [word]


@contextmanager
def _folder(names: Sequence[str], beside: Path | None) -> Iterator[Path]:
    """Yield the locked folder of a run. It is removed, except after an error that left whole files."""
    if beside is None:
        with tempfile.TemporaryDirectory(prefix="skelpipe-import-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    shown = "\n".join(shown_url(name)[0] if ADDRESS.match(name) else name for name in names)
    folder = beside / f"fetched-{hashlib.sha256(shown.encode()).hexdigest()[:12]}"
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder / LOCK, wait=False))
        except BlockingIOError:
            raise UsageError(f"{folder}: another import is fetching the same files") from None
        except OSError as error:
            raise SkelpipeError(f"{folder}: cannot be written: {error.strerror or error}") from None
        for part in folder.rglob(f"*{PART}"):  # of a killed run
            part.unlink(missing_ok=True)
        try:
            yield folder
        except BaseException:
            if not any(path.is_file() for path in (folder / CONTENT).rglob("*")):
                _remove(folder, held)
            raise
        _remove(folder, held)


def _remove(folder: Path, held: ExitStack) -> None:
    with suppress(OSError):
        remove_folder(folder, held)


def _located(
    names: Sequence[str], root: Path, made: Fetched, threads: WorkerThreads, stopped: threading.Event
) -> list[_Source]:
    """Return the remote files among `names` with their sizes; add all local paths and addresses to `made`."""
    opened = [open_file(name.rstrip("/")) if ADDRESS.match(name) else None for name in names]
    jobs = [
        None if one is None else _submit(threads, stopped, partial(one[0].size, one[1])) if one[1] else None
        for one in opened
    ]
    found: dict[Path, _Source] = {}
    taken: dict[Path, str] = {}
    for name, one, job in zip(names, opened, jobs, strict=True):
        if one is None:
            made.paths.append(name)
            continue
        filesystem, file = one
        shown = f"{filesystem}/{file}".rstrip("/")
        size = None if job is None else result_of(job)
        place = _place(root, shown, shown_url(name.rstrip("/"))[0], taken)
        if size is not None and not name.endswith("/"):
            found[place] = _Source(filesystem, file, shown, size, place)
        else:
            found |= {
                source.path: source for source in _folder_of(filesystem, file, shown, place, threads, stopped)
            }
        made.paths.append(str(place))
        made.addresses[str(place)] = shown
    made.addresses.update({str(path): source.shown for path, source in found.items()})
    return list(found.values())


def _place(root: Path, shown: str, url: str, taken: dict[Path, str]) -> Path:
    """Return the path of an address under `root`: its folders stay, since formats read their names."""
    inside, number = shown.partition("://")[2], 1
    place = root / inside
    while taken.setdefault(place, url) != url:  # the same bucket and key on two servers
        number += 1
        place = root / str(number) / inside
    return place


def _folder_of(
    filesystem: Filesystem,
    name: str,
    shown: str,
    place: Path,
    threads: WorkerThreads,
    stopped: threading.Event,
) -> list[_Source]:
    """Return the files of a folder of a bucket; SkelpipeError where it has none, or where nobody can list it."""
    try:
        folder = filesystem.child(name) if name else filesystem
        files = folder.names()
    except UsageError:
        raise SkelpipeError(
            f"{shown}: cannot be read: no such file; of a web server, name files: it does not list folders"
        ) from None
    if not files:
        raise SkelpipeError(f"{shown}: cannot be read: no such file or folder")
    jobs = [_submit(threads, stopped, partial(folder.size, file)) for file in files]
    sizes = [result_of(job) for job in jobs]
    return [
        _Source(folder, file, f"{shown}/{file}", size, place / file)
        for file, size in zip(files, sizes, strict=True)
        if size is not None
    ]


def _is_whole(source: _Source) -> bool:
    return source.path.is_file() and source.path.stat().st_size == source.size


def _require_room(waiting: Sequence[_Source], folder: Path) -> None:
    needed, free = sum(source.size for source in waiting), shutil.disk_usage(folder).free
    if needed > free:
        raise SkelpipeError(
            f"{folder}: {needed:,} bytes are needed for {len(waiting):,} files, such as {waiting[0].shown}, and"
            f" {free:,} are free: name a larger disk by --out (with an address: --work)"
        )


def _submit(threads: WorkerThreads, stopped: threading.Event, job: "partial[T]") -> "Future[T]":
    def run() -> T:
        give_up_when(stopped.is_set)
        return job()

    return threads.submit(run)


def _fetch(source: _Source) -> None:
    """Store a file, whole or not at all, streamed. Its time stands for its content.

    An unfinished import is continued only if no file's time has changed, and the same bytes may be fetched twice.
    """
    for attempt in range(1, TIMES + 1):
        hasher, got = hashlib.sha256(), 0
        try:
            with replacing(source.path) as file:
                for piece in source.filesystem.stream(source.name):
                    got += len(piece)
                    if got > source.size:
                        break
                    hasher.update(piece)
                    file.write(piece)
                if got != source.size:
                    raise _WrongSizeError
                file.flush()
                seconds = int(hasher.hexdigest()[:7], 16)  # before 1979: never newer than a dataset
                if os.utime in os.supports_fd:
                    os.utime(file.fileno(), (seconds, seconds))
            if os.utime not in os.supports_fd:  # Windows
                os.utime(source.path, (seconds, seconds))
        except _WrongSizeError:
            if attempt < TIMES:
                retry.POLICY.wait(attempt)
        else:
            return
    more = "more than " if got > source.size else f"{got:,} of "
    raise SkelpipeError(
        f"{source.shown}: cut off or replaced on the server: {more}{source.size:,} bytes came {TIMES} times"
    )


class _WrongSizeError(Exception):
    """A file had another number of bytes than the server had said."""
