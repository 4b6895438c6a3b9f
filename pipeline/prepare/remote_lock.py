"""The lock of a remote filesystem for `prepare`: the rules of `folder_lock`, but without file locks.

The settings and receipts are at the target, so that a rerun on any machine continues unfinished work.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skelpipe.dataset.card import CARD, SAMPLES, most_table_bytes, parse_card
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.manifest import SUBSETS
from skelpipe.prepare.folder_lock import (
    README,
    SETTINGS,
    WORK,
    Changed,
    refuse_changed_raw,
    refuse_unless,
    settings_of,
)
from skelpipe.storage.filesystem import Filesystem
from skelpipe.storage.reread import read_parsed

__all__ = ["WORK_PREFIX", "Lock", "lock_filesystem", "release", "still_locked"]

WORK_PREFIX = f"{WORK}-"  # of settings and receipts: a folder would stay in a bucket, empty
SETTINGS_FILE = f"{WORK_PREFIX}{SETTINGS}"

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
) -> Lock | dict[str, Any]:
    """Save the settings at the target and return its lock, or its card if it already holds this dataset.

    It does if its card has the same settings and no raw file has `changed`. The clocks of stores are not compared
    with this machine's: raw files are compared with those in its sample table, where that says something of them,
    else by name and size only. `raw_times` is a hash of the times of all raw files; unfinished
    work is continued only if it is the same. `overwrite` removes a dataset with other settings, finished or not.
    Raises UsageError if the target holds something else.
    """
    names = frozenset(target.names())
    content = json.dumps({**settings, "raw_times": raw_times}, sort_keys=True).encode()
    if SETTINGS_FILE in names:
        before, parsed = read_parsed(target, SETTINGS_FILE, lambda content: _parsed(content, target))
        if before == content:
            return Lock(content, names)
        refuse_unless(overwrite, target, parsed, json.loads(content))
    elif CARD in names:
        _, card = read_parsed(target, CARD, lambda content: parse_card(content, target))
        if settings_of(card) == settings and not (
            changed is not None
            and refuse_changed_raw(
                changed(card, target.read(SAMPLES, most_table_bytes(card)), target, card_time=None),
                target,
                overwrite=overwrite,
            )
        ):
            release(target, names)
            return card
        refuse_unless(overwrite, target, settings_of(card), settings)
    elif any(not name.startswith(WORK_PREFIX) for name in names):
        raise UsageError(f"--out {target}: holds files that are not of a skelpipe dataset: choose an empty prefix")
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
    """Remove settings and receipts of a finished dataset, the settings first: receipts alone have no effect."""
    for name in sorted(target.names() if names is None else names, key=lambda name: name != SETTINGS_FILE):
        if name.startswith(WORK_PREFIX):
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
        if name == CARD or name in DATASET_FILES or name.startswith(DATASET_PREFIXES):
            target.remove(name)
