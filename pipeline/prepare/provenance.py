"""Which raw files a dataset was made from, by their hashes: whether they changed since, or during `prepare`.

Times and sizes are compared first. Where they differ, the content decides: a file that was unpacked or copied
again is no other file, and one that rsync or unzip put there with an older time is not overlooked.
"""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from skelpipe.dataset.card import parse_samples
from skelpipe.errors import RawError, SkelpipeError, UsageError
from skelpipe.files import size_and_hash
from skelpipe.prepare.plan import Plan
from skelpipe.raw.source import RawFile, TextBuffer, listing_hash
from skelpipe.raw.tar_archive import TAR_SUFFIXES

__all__ = ["ChangedError", "WholeFiles", "changed_since", "hash_of", "raw_facts", "refuse_changed"]

SHOWN = 3
SLACK = 2 * 10**9  # ns; clocks of file systems are coarse, and those of servers differ
AT_ONCE = 4  # files hashed side by side: it releases Python's lock


class ChangedError(SkelpipeError):
    """Raw files changed while they were prepared; `samples` are the ids of their clips."""

    def __init__(self, message: str, samples: frozenset[str]) -> None:
        super().__init__(message)
        self.samples = samples


def raw_facts(file: RawFile, sha256: str | None) -> dict[str, Any]:
    """Return what the sample table says of a recording's raw file."""
    return {
        "raw_file": file.relative,
        "raw_item": None if file.item is None else f"{file.item[0]}[{file.item[1]}]",
        "raw_size": file.size,
        "raw_time": file.changed,
        "raw_sha256": sha256,
    }


def hash_of(file: RawFile) -> str:
    """Return the sha256 of a raw file or archive member, or the `listing_hash` of a recording's many files.

    Of a file that holds many recordings it is the hash of the whole file. RawError where it cannot be read.
    """
    if file.item is not None:
        try:
            return size_and_hash(Path(file.path))[1]
        except OSError as error:
            raise RawError(f"{file.path}: cannot be read: {error.strerror or error}") from None
    text = TextBuffer(hashing=True)
    hashes = []
    for part in [part for _, part in file.parts] or [file]:
        text.read_raw(part)
        hashes.append((part.relative.rpartition("/")[2], text.sha256))
    return listing_hash(hashes) if file.parts else text.sha256


def _whole(file: RawFile) -> RawFile:
    """Return the file in which this is one recording of many, or else the file itself."""
    return RawFile(file.relative, file.path, file.size, file.changed, item=("", 0)) if file.item else file


def changed_since(
    plan: Plan, card: Mapping[str, Any], table: bytes, where: object, *, check_raw: bool, card_time: int | None
) -> str:
    """Return in words which raw files are not those that a dataset was made from; "" where they are.

    `table` are the bytes of its sample table, `where` names it in messages. Files of other times or sizes are
    hashed, all of them with `check_raw`. Datasets of card version 2 or less hold no hashes: a file that is newer
    than their card, at `card_time` in ns (None: unknown), has changed. Raises UsageError for `check_raw` of these.
    """
    if "provenance" not in card:
        if check_raw:
            raise UsageError(
                f"--check-raw: {where} holds no hashes of its raw files, as it was made by an earlier skelpipe:"
                " prepare it again with --overwrite"
            )
        return "" if card_time is None or plan.newest <= card_time else "the raw files have changed since"
    before = _recorded(parse_samples(table, card, where))
    waiting: dict[RawFile, str] = {}
    changed = set()
    for sample in plan.samples:
        size, changed_at, sha256 = before.get(sample.id, (None, None, None))
        file = sample.file
        if sha256 is None:  # dropped at that time, or not read
            if file.changed != changed_at and changed_at is not None:
                changed.add(file.path)
        elif check_raw or file.parts or (size, changed_at) != (file.size, file.changed):
            waiting[_whole(file)] = sha256
    if waiting and not check_raw and plan.fingerprint(times=True) == card["provenance"]["raw_times"]:
        waiting = {}  # recordings in many files, none of which has another time
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for file, same in zip(waiting, list(pool.map(_is_same, waiting.items())), strict=True):
            if not same:
                changed.add(file.path)
    return _listed(sorted(changed), "changed since") if changed else ""


def _recorded(table: pa.Table) -> dict[str, tuple[int | None, int | None, str | None]]:
    columns = ["id", "raw_size", "raw_time", "raw_sha256"]
    values = table.select(columns).to_pydict()
    return {row[0]: row[1:] for row in zip(*(values[name] for name in columns), strict=True)}


def _is_same(known: tuple[RawFile, str]) -> bool:
    file, sha256 = known
    try:
        return hash_of(file) == sha256
    except RawError:
        return False


def _listed(paths: Sequence[str], what: str) -> str:
    more = f" and {len(paths) - SHOWN:,} more" if len(paths) > SHOWN else ""
    return f"{', '.join(paths[:SHOWN])}{more} {'have' if len(paths) > 1 else 'has'} {what}"


class WholeFiles:
    """The hashes of files that hold many recordings, each computed on a thread while recordings are read."""

    def __init__(self, files: Iterable[RawFile]) -> None:
        self._pool = ThreadPoolExecutor(1, "skelpipe-hash")
        whole = {file.path: file for file in files if file.item is not None}
        self._hashes: dict[str, Future[str]] = {
            path: self._pool.submit(hash_of, file) for path, file in whole.items()
        }

    def __enter__(self) -> "WholeFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def of(self, file: RawFile, read: Mapping[str, str], identity: str) -> str | None:
        """Return the hash of a recording's file: that of the file, or the one computed when it was read."""
        return self._hashes[file.path].result() if file.item is not None else read.get(identity)


def refuse_changed(plan: Plan, hashes: Mapping[str, str | None], started: int) -> None:
    """Raise ChangedError, which names the raw files, where some changed while they were prepared.

    `hashes` are those of the content that was read, by sample; `started` is the time of the start in ns. Files
    whose size and times are as they were are not read again.
    """
    known: dict[RawFile, set[str]] = {}
    for sample in plan.samples:
        if (sha256 := hashes.get(sample.id)) is not None:
            known.setdefault(_whole(sample.file), set()).add(sha256)
    for file, sha256 in plan.label_files.items():
        known.setdefault(file, set()).add(sha256)
    looks: dict[str, tuple[bool, bool]] = {}  # one per archive, not one per member
    changed: set[str] = set()
    waiting: dict[RawFile, str] = {}
    for file, found in known.items():
        if len(found) > 1:  # it changed between the readings of its clips
            changed.add(file.path)
        for part in [part for _, part in file.parts] or [file]:
            path = part.path if part.member is None else _archive(part)
            if path not in looks:
                looks[path] = _looked_at(path, part, started)
            other, touched = looks[path]
            if other and part.member is not None and path.lower().endswith(TAR_SUFFIXES[1:]):
                changed.add(path)  # its members are read from a copy, which did not change
            elif other and part.member is None and not _same_size(part):
                changed.add(part.path)
            elif other or touched:
                waiting[file] = next(iter(found))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        same = list(pool.map(_is_same, waiting.items()))
    changed |= {file.path for file, is_same in zip(waiting, same, strict=True) if not is_same}
    if changed:
        archives = {path for path in changed if path in looks}
        clips = frozenset(
            sample.id
            for sample in plan.samples
            if sample.file.path in changed
            or any(part.path in changed for _, part in sample.file.parts)
            or (archives and sample.file.member is not None and _archive(sample.file) in archives)
        )
        raise ChangedError(
            f"{_listed(sorted(changed), 'changed')} while prepare was running: nothing is finished; run it again"
            " when the raw files stay as they are",
            clips,
        )


def _archive(member: RawFile) -> str:
    """Return the path of the archive that a member is in."""
    return next((str(path) for path in Path(member.path).parents if path.is_file()), str(member.archive))


def _looked_at(path: str, file: RawFile, started: int) -> tuple[bool, bool]:
    """Return whether a file has another time than when it was listed, and whether it was touched since then."""
    try:
        status = os.stat(path)
    except OSError:
        return True, True
    if not stat.S_ISREG(status.st_mode):
        return False, False
    return status.st_mtime_ns != file.changed, status.st_ctime_ns >= started - SLACK


def _same_size(file: RawFile) -> bool:
    try:
        return os.stat(file.path).st_size == file.size
    except OSError:
        return False
