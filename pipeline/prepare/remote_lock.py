"""The lock of a remote filesystem for `prepare`: the rules of `folder_lock`, but without file locks.

The settings and receipts are at the target, so that a rerun on any machine continues unfinished work.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from skelpipe.dataset.card import CARD, SAMPLES, most_table_bytes, parse_card
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.manifest import SUBSETS
from skelpipe.prepare.folder_lock import (
    README,
    SETTINGS,
    WORK,
    Changed,
    is_of,
    refuse_unless,
    settings_of,
)
from skelpipe.storage.filesystem import Filesystem
from skelpipe.storage.reread import read_parsed

__all__ = ["OWNER_FILE", "WORK_PREFIX", "Lock", "lock_filesystem", "release", "still_locked"]

WORK_PREFIX = f"{WORK}-"  # of settings and receipts: a folder would stay in a bucket, empty
SETTINGS_FILE = f"{WORK_PREFIX}{SETTINGS}"
OWNER_FILE = f"{WORK_PREFIX}owner.json"

DATASET_PREFIXES = (WORK_PREFIX, *(f"{subset}/" for subset in SUBSETS), "anchors/", "untrimmed/")
DATASET_FILES = (SAMPLES, README, *(f"{subset}.h5" for subset in SUBSETS))


@dataclass(frozen=True)
class Lock:
    """A locked target: the bytes of its settings, and the names of its files."""

    settings: bytes
    names: frozenset[str]


def lock_filesystem(
    target: Filesystem,
    settings: Mapping[str, Any],
    *,
    overwrite: bool,
    raw_times: str = "",
    changed: Changed | None = None,
    acquire: Callable[[], None] = lambda: None,
) -> Lock | dict[str, Any]:
    """Save the settings at the target and return its lock, or its card if it already holds this dataset.

    It does if its card has the same settings and no raw file has `changed`. The clocks of stores are not compared
    with this machine's: raw files are compared with those in its sample table, where that says something of them,
    else by name and size only. `raw_times` is a hash of the times of all raw files; unfinished
    work is continued only if it is the same. `overwrite` removes a dataset with other settings, finished or not.
    `acquire` is called before anything is written; it raises where another process writes there. Raises UsageError
    if the target holds something else.
    """
    names = frozenset(target.names())
    if names & {SETTINGS_FILE, OWNER_FILE}:  # somebody else's work may end while `acquire` waits
        acquire()
        names = frozenset(target.names())
    content = json.dumps({**settings, "raw_times": raw_times}, sort_keys=True).encode()
    if SETTINGS_FILE in names:
        before, parsed = read_parsed(target, SETTINGS_FILE, lambda content: _parsed(content, target))
        if before == content:
            return Lock(content, names)
        refuse_unless(overwrite, target, parsed, json.loads(content))
    elif CARD in names:
        _, card = read_parsed(target, CARD, lambda content: parse_card(content, target))
        table = partial(target.read, SAMPLES, most_table_bytes(card))
        look = partial(changed, card, where=target, card_time=None) if changed else (lambda _: "")
        if is_of(card, settings, lambda: look(table()), target, overwrite=overwrite):
            release(target, names)
            return card
        refuse_unless(overwrite, target, settings_of(card), settings)
    elif any(not name.startswith(WORK_PREFIX) for name in names):
        raise UsageError(f"--out {target}: holds files that are not of a skelpipe dataset: choose an empty prefix")
    acquire()
    _remove_dataset(target, names)
    target.write(SETTINGS_FILE, [content])
    return Lock(content, frozenset())


def still_locked(target: Filesystem, settings: bytes) -> None:
    """Raise SkelpipeError if another prepare has locked the target since, or has finished there."""
    if target.size(SETTINGS_FILE) is None or target.read(SETTINGS_FILE) != settings:
        raise SkelpipeError(
            f"{target}: another prepare is writing there: let one finish, then run the command again"
        )


def release(target: Filesystem, names: frozenset[str] | None = None) -> None:
    """Remove settings and receipts of a finished dataset, the settings first: receipts alone have no effect.

    Without `names` all but the owner's file, which the owner removes.
    """
    for name in sorted(target.names() if names is None else names, key=lambda name: name != SETTINGS_FILE):
        if name.startswith(WORK_PREFIX) and (names is not None or name != OWNER_FILE):
            target.remove(name)


def _parsed(settings: bytes, target: Filesystem) -> dict[str, Any]:
    try:
        before: dict[str, Any] = json.loads(settings)
        return before
    except (ValueError, RecursionError):
        raise SkelpipeError(f"{target}/{SETTINGS_FILE}: is damaged: remove it") from None


def _remove_dataset(target: Filesystem, names: frozenset[str]) -> None:
    """Remove the files of a dataset, the card first; keep all other files."""
    for name in sorted(names, key=lambda name: name != CARD):
        if name != OWNER_FILE and (name == CARD or name in DATASET_FILES or name.startswith(DATASET_PREFIXES)):
            target.remove(name)
