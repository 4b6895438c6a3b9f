"""Copy a dataset between filesystems: every byte is checked against the card, and the card is written last."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

from skelpipe.dataset.card import CARD, parse_card
from skelpipe.dataset.inventory import DATA_FILE, DataFile, inventory
from skelpipe.errors import DatasetError, SkelpipeError, UsageError
from skelpipe.files import PART, size_and_hash_of
from skelpipe.prepare.folder_lock import README, WORK
from skelpipe.prepare.remote_lock import OWNER_FILE, WORK_PREFIX
from skelpipe.prepare.remote_owner import RemoteOwner, owned_remotely
from skelpipe.progress import progress
from skelpipe.storage.deadlines import give_up_when
from skelpipe.storage.filesystem import Filesystem, at_most
from skelpipe.storage.reread import read_parsed

__all__ = ["CopyReport", "copy_dataset"]


@dataclass(frozen=True)
class CopyReport:
    """The result of a copy: files and bytes copied, and files that the target already had."""

    source: str
    target: str
    digest: str
    copied: int
    skipped: int
    bytes: int

    @property
    def was_complete(self) -> bool:
        return self.copied == 0


class _Writer(ExitStack):
    """Becomes the only one that writes to a bucket, once there is something to write; a command holds folders."""

    def __init__(self, target: Filesystem, say: Callable[[str], None]) -> None:
        super().__init__()
        self._target, self._say, self._once = target, say, Lock()
        self._owner: RemoteOwner | None = None

    def acquire(self) -> None:
        """Become the owner; UsageError where another process is."""
        with self._once:
            if self._owner is None and not self._target.is_local:
                self._owner = self.enter_context(owned_remotely(self._target, OWNER_FILE, "copy", self._say))

    def check(self) -> None:
        """Raise SkelpipeError where another process has become the owner."""
        if self._owner is not None:
            self._owner.check()


def copy_dataset(
    source: Filesystem,
    target: Filesystem,
    *,
    workers: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> CopyReport:
    """Copy the dataset at `source` to `target`, `workers` files at a time; continue a copy that was interrupted.

    Each file is hashed while it is copied, and read back from the target; a file that the target already has with
    the hash of the card is skipped. `overwrite` replaces another dataset at the target and keeps other files.
    Into a bucket, one process writes at a time; `say` is told why another one waits. Raises DatasetError if the
    source is damaged, UsageError if the target holds something else or another process writes there, SkelpipeError
    if a filesystem cannot be read or written.
    """
    _refuse_same(source, target)
    card_bytes, card = _read_card(source)
    files = list(inventory(card))
    readme = source.read(README) if source.size(README) is not None else None
    small = {README: readme} if readme is not None else {}
    with _Writer(target, say) as writer:
        present = _settle(target, writer, card_bytes, card["digest"], files, readme, overwrite=overwrite)
        sizes = _copy_files(source, target, writer, files, present, workers, quiet)
        for name, content in {**small, CARD: card_bytes}.items():
            if name not in present or target.read(name) != content:
                writer.acquire()
                writer.check()
                target.write(name, [content])
                _refuse_unless(target.read(name) == content, target, name)
                sizes.append(len(content))
    skipped = len(files) + len(small) + 1 - len(sizes)
    return CopyReport(str(source), str(target), card["digest"], len(sizes), skipped, sum(sizes))


def _refuse_same(source: Filesystem, target: Filesystem) -> None:
    # two URLs may name one object store: the copy then finds its target complete
    if source.is_local and target.is_local and source.local_path.resolve() == target.local_path.resolve():
        raise UsageError(f"{target}: is the source of the copy")


def _read_card(source: Filesystem) -> tuple[bytes, dict[str, Any]]:
    if source.size(CARD) is None:
        raise DatasetError(f"{source}: no {CARD} here: no dataset, or one that is not finished")
    return read_parsed(source, CARD, lambda content: parse_card(content, source))


def _settle(
    target: Filesystem,
    writer: _Writer,
    card_bytes: bytes,
    digest: str,
    files: Sequence[DataFile],
    readme: bytes | None,
    *,
    overwrite: bool,
) -> frozenset[str]:
    """Prepare the target for the copy, or refuse it; return the names of its files.

    A card that is not the source's is removed first, so that it never describes files of two datasets.
    """
    present = _names(target)
    if OWNER_FILE in present:
        writer.acquire()
        present = _names(target)  # the other may have ended meanwhile
    standing = target.read(CARD) if CARD in present else None
    if standing == card_bytes:
        return frozenset(present)
    ours = {file.name for file in files} | {CARD}
    named = {name.removesuffix(PART) for name in present}  # a copy may have been killed while it wrote any of them
    if README in named and (not ours.isdisjoint(named) or target.read(README) == readme):
        ours.add(README)  # data files are copied before it; without them it belongs to another folder
    foreign = [name for name in present if name.removesuffix(PART) not in ours and name != OWNER_FILE]
    if not overwrite:
        _refuse(target, standing, digest, foreign)
    writer.acquire()
    if standing is not None:
        target.remove(CARD)
    for name in foreign:
        if DATA_FILE.fullmatch(name.removesuffix(PART)):
            target.remove(name)
    return frozenset(present) - {CARD, *foreign}


def _names(target: Filesystem) -> list[str]:
    """Return the names of the target's files; UsageError where a prepare is unfinished."""
    names = target.names()
    if any(name.startswith((f"{WORK}/", WORK_PREFIX)) and name != OWNER_FILE for name in names):
        raise UsageError(f"{target}: a prepare is unfinished there: let it finish or choose another target")
    return names


def _refuse(target: Filesystem, standing: bytes | None, digest: str, foreign: Sequence[str]) -> None:
    other = digest if standing is None else _digest_of(standing)
    if other != digest:
        raise UsageError(
            f"{target} holds another dataset (digest {other[:12]}, to copy is {digest[:12]}):"
            " choose another target or pass --overwrite"
        )
    if foreign:
        raise UsageError(
            f"{target} holds files that are not of this dataset, the first {foreign[0]}:"
            " choose an empty target or pass --overwrite"
        )


def _digest_of(card_bytes: bytes) -> str:
    try:
        return str(json.loads(card_bytes)["digest"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "unreadable"


def _copy_files(
    source: Filesystem,
    target: Filesystem,
    writer: _Writer,
    files: Sequence[DataFile],
    present: frozenset[str],
    workers: int,
    quiet: bool,
) -> list[int]:
    """Copy the files that the target does not have yet; return the size of each one copied.

    The first failure stops the other files at their next piece.
    """
    stop = Event()
    with ThreadPoolExecutor(workers, "skelpipe-copy", give_up_when, (stop.is_set,)) as pool:
        futures = [
            pool.submit(_copy_file, source, target, writer, file, file.name in present, stop) for file in files
        ]
        try:
            label = f"copy {source} to {target}: files"
            done = progress(as_completed(futures), label, len(files), quiet=quiet)
            return [size for future in done if (size := future.result()) is not None]
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _copy_file(
    source: Filesystem, target: Filesystem, writer: _Writer, file: DataFile, is_there: bool, stop: Event
) -> int | None:
    """Copy a file and read it back; return its size, or None if the target already had it with the card's hash."""
    if is_there and file.size in (None, target.size(file.name)):
        _, sha256 = size_and_hash_of(_until(stop, at_most(target.stream(file.name), file.most)))
        if sha256 == file.sha256:
            return None
    writer.acquire()
    target.write(file.name, _checked(source, file, stop))
    size, sha256 = size_and_hash_of(_until(stop, at_most(target.stream(file.name), file.most)))
    _refuse_unless(sha256 == file.sha256, target, file.name)
    return size


def _refuse_unless(same: bool, target: Filesystem, name: str) -> None:
    """Remove a file that does not read back as it was written, and raise SkelpipeError."""
    if not same:
        target.remove(name)
        raise SkelpipeError(f"{target}/{name}: does not read back as it was written: run copy again")


def _checked(source: Filesystem, file: DataFile, stop: Event) -> Iterator[bytes]:
    """Yield a file's pieces; DatasetError at its end if their hash is not the card's."""
    hasher = hashlib.sha256()
    size = 0
    for piece in _until(stop, at_most(source.stream(file.name), file.most)):
        hasher.update(piece)
        size += len(piece)
        yield piece
    if hasher.hexdigest() != file.sha256:
        raise DatasetError(
            f"{source}/{file.name}: damaged at the source: the sha256 of its {size:,} bytes is not the card's"
        )


def _until(stop: Event, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        if stop.is_set():
            raise SkelpipeError("stopped: another file could not be copied")
        yield piece
