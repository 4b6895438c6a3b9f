"""Which raw files a dataset was made from, by their hashes: whether they changed since, or during `prepare`.

Times and sizes are compared first. Where they differ, the content decides: a file that was unpacked or copied
again is no other file, and one that rsync or unzip put there with an older time is not overlooked.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from skelpipe.dataset.card import SAMPLES, parse_samples
from skelpipe.errors import DatasetError, RawError, SkelpipeError, UsageError
from skelpipe.prepare.plan import Plan
from skelpipe.raw.source import HASHES, RawFile, TextBuffer, listing_hash
from skelpipe.raw.tar_archive import TAR_SUFFIXES
from skelpipe.untrusted import shown

__all__ = ["ChangedError", "WholeFiles", "changed_since", "hash_of", "raw_facts", "refuse_changed"]

SHOWN = 3
SLACK = 2 * 10**9  # ns; clocks of file systems are coarse, and those of servers differ
AT_ONCE = 4  # files hashed side by side: it releases Python's lock


class ChangedError(SkelpipeError):
    """Raw files changed while they were prepared; `samples` are the ids of their clips."""

    def __init__(self, message: str, samples: frozenset[str]) -> None:
        super().__init__(message)
        self.samples = samples


class _Known(NamedTuple):
    """What a sample table says of the raw file of one clip."""

    file: str | None
    size: int | None
    changed: int | None
    hash: str | None


def raw_facts(file: RawFile, xxh128: str | None) -> dict[str, Any]:
    """Return what the sample table says of a recording's raw file."""
    return {
        "raw_file": file.relative,
        "raw_item": None if file.item is None else f"{file.item[0]}[{file.item[1]}]",
        "raw_size": file.size,
        "raw_time": file.changed,
        "raw_xxh128": xxh128,
    }


def hash_of(file: RawFile, kind: str = "xxh128") -> str:
    """Return the hash of a raw file or archive member, or the `listing_hash` of a recording's many files.

    `kind` is one of `HASHES`. Of a file that holds many recordings it is the hash of the whole file.
    Raises RawError where it cannot be read.
    """
    if file.item is not None:
        try:
            with open(file.path, "rb") as whole:
                return hashlib.file_digest(whole, HASHES[kind]).hexdigest()
        except OSError as error:
            raise RawError(f"{file.path}: cannot be read: {error.strerror or error}") from None
    text = TextBuffer(hashing=kind)
    hashes = []
    for part in [part for _, part in file.parts] or [file]:
        text.read_raw(part)
        hashes.append((part.relative.rpartition("/")[2], text.hash))
    return listing_hash(hashes, kind) if file.parts else text.hash


def _whole(file: RawFile) -> RawFile:
    """Return the file in which this is one recording of many, or else the file itself."""
    return RawFile(file.relative, file.path, file.size, file.changed, item=("", 0)) if file.item else file


def changed_since(
    plan: Plan, card: Mapping[str, Any], table: bytes, where: object, *, check_raw: bool, card_time: int | None
) -> str:
    """Return in words which raw files are not those that a dataset was made from; "" where they are.

    `table` are the bytes of its sample table, `where` names it in messages. Files that were removed or added are
    named first. Files of other times or sizes are hashed, all of them with `check_raw`. Datasets of card version 2
    or less hold no hashes: a file that is newer than their card, at `card_time` in ns (None: unknown), has
    changed. Raises UsageError for `check_raw` of these.
    """
    if "provenance" not in card:
        if check_raw:
            raise UsageError(
                f"--check-raw: {where} holds no hashes of its raw files, as it was made by an earlier skelpipe:"
                " prepare it again with --overwrite"
            )
        return "" if card_time is None or plan.newest <= card_time else "the raw files have changed since"
    before, kind = _recorded(parse_samples(table, card, where), where)
    if gone_or_new := _gone_or_new(plan, before):
        return gone_or_new
    waiting: dict[RawFile, str] = {}
    changed = set()
    for sample in plan.samples:
        known, file = before.get(sample.id, _Known(None, None, None, None)), sample.file
        if known.hash is None:  # dropped at that time, or not read
            if known.changed not in (None, file.changed):
                changed.add(file.path)
        elif check_raw or file.parts or (known.size, known.changed) != (file.size, file.changed):
            waiting[_whole(file)] = known.hash
    if waiting and not check_raw and plan.fingerprint(times=True) == card["provenance"]["raw_times"]:
        waiting = {}  # recordings in many files, none of which has another time
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for file, same in zip(waiting, list(pool.map(partial(_is_same, kind), waiting.items())), strict=True):
            if not same:
                changed.add(file.path)
    return _listed(sorted(changed), "changed since") if changed else ""


def _recorded(table: pa.Table, where: object) -> tuple[dict[str, _Known], str]:
    """Return what a sample table says of the raw files by clip, and which of `HASHES` it has."""
    kind = next((kind for kind in HASHES if f"raw_{kind}" in table.schema.names), next(iter(HASHES)))
    columns = ["id", "raw_file", "raw_size", "raw_time", f"raw_{kind}"]
    if missing := [name for name in columns if name not in table.schema.names]:
        raise DatasetError(f"{where}/{SAMPLES}: has no column {missing[0]}, as the card's provenance promises")
    values = table.select(columns).to_pydict()
    rows = zip(*(values[name] for name in columns), strict=True)
    return {identity: _Known(*known) for identity, *known in rows}, kind


def _gone_or_new(plan: Plan, before: Mapping[str, _Known]) -> str:
    """Return in words which raw files were there and are no more, or else were not there before; "" for none.

    Clips are compared, since files have other names in an archive.
    """
    now = {sample.id for sample in plan.samples} | {drop.id for drop in plan.drops}
    files = {sample.file.relative for sample in plan.samples}
    gone = {known.file for identity, known in before.items() if identity not in now and known.file is not None}
    if gone := gone - files:
        return _listed(sorted(map(shown, gone)), "been removed since")
    read = {known.file for known in before.values()}
    new = {s.file.path for s in plan.samples if s.id not in before and s.file.relative not in read}
    return _listed(sorted(new), "been added since") if new else ""


def _is_same(kind: str, known: tuple[RawFile, str]) -> bool:
    file, before = known
    try:
        return hash_of(file, kind) == before
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
        if (read := hashes.get(sample.id)) is not None:
            known.setdefault(_whole(sample.file), set()).add(read)
    for file, read in plan.label_files.items():
        known.setdefault(file, set()).add(read)
    archives = _Archives()
    looks: dict[str, tuple[bool, bool]] = {}  # one per archive, not one per member
    changed: set[str] = set()
    waiting: dict[RawFile, str] = {}
    for file, found in known.items():
        if len(found) > 1:  # it changed between the readings of its clips
            changed.add(file.path)
        for part in [part for _, part in file.parts] or [file]:
            path = part.path if part.member is None else archives.of(part)
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
        same = list(pool.map(partial(_is_same, "xxh128"), waiting.items()))
    changed |= {file.path for file, is_same in zip(waiting, same, strict=True) if not is_same}
    if changed:
        seen = {path for path in changed if path in looks}
        clips = frozenset(
            sample.id
            for sample in plan.samples
            if sample.file.path in changed
            or any(part.path in changed for _, part in sample.file.parts)
            or (seen and sample.file.member is not None and archives.of(sample.file) in seen)
        )
        raise ChangedError(
            f"{_listed(sorted(changed), 'changed')} while prepare was running: nothing is finished; run it again"
            " when the raw files stay as they are",
            clips,
        )


class _Archives:
    """The archives that members are in; the disk is asked once for all members of one."""

    def __init__(self) -> None:
        self._by_holder: dict[str, str] = {}  # the file that is read: of a .tar.gz a temporary one

    def of(self, member: RawFile) -> str:
        """Return the path of the archive that a member is in."""
        holder = str(member.archive)
        if holder not in self._by_holder:
            above = (str(path) for path in Path(member.path).parents if path.is_file())
            self._by_holder[holder] = next(above, holder)
        return self._by_holder[holder]


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
