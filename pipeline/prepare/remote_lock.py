"""Claiming a place elsewhere for `prepare`: the rules of a folder here, without a lock, which buckets do not have.

Settings and receipts lie at the place as well, so that a rerun goes on with what was cut off, wherever it runs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skelpipe.dataset.card import CARD, SAMPLES, parse_card
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.manifest import SUBSETS
from skelpipe.prepare.folder_lock import README, SETTINGS, WORK, made_with, refuse_unless
from skelpipe.storage.filesystem import Filesystem
from skelpipe.storage.reread import read_parsed

__all__ = ["NOTE", "Lock", "lock_filesystem", "release", "still_locked"]

NOTE = f"{WORK}-"  # starts their names; removing files from a folder of a bucket leaves the folder there, empty
NOTED = f"{NOTE}{SETTINGS}"

OURS = (NOTE, *(f"{subset}/" for subset in SUBSETS), "anchors/", "untrimmed/")
OURS_TOO = (SAMPLES, README, *(f"{subset}.h5" for subset in SUBSETS))


@dataclass(frozen=True)
class Lock:
    """What a locked place holds: the bytes of its settings, and the names of its files."""

    settings: bytes
    names: frozenset[str]


def lock_filesystem(
    place: Filesystem, settings: Mapping[str, Any], *, overwrite: bool, raw_times: str = ""
) -> Lock | dict[str, Any]:
    """Note the settings down at the place and return what it holds; its card where it holds this dataset already.

    It does when the card has the same settings; the clocks of stores are not compared with this machine's, so
    that the raw files count by name and size. `raw_times` stands for the times of all of them: while work is cut
    off none may change. `overwrite` removes a dataset, finished or not, that was made with other settings.
    Raises UsageError where the place holds something else.
    """
    names = frozenset(place.names())
    content = json.dumps({**settings, "raw_times": raw_times}, sort_keys=True).encode()
    if NOTED in names:
        before, parsed = read_parsed(place, NOTED, lambda noted: _parsed(noted, place))
        if before == content:
            return Lock(content, names)
        refuse_unless(overwrite, place, parsed, json.loads(content))
    elif CARD in names:
        _, card = read_parsed(place, CARD, lambda content: parse_card(content, place))
        if made_with(card) == settings:
            release(place, names)
            return card
        refuse_unless(overwrite, place, made_with(card), settings)
    elif any(not name.startswith(NOTE) for name in names):
        raise UsageError(f"--out {place}: holds files that are no dataset of ours: choose an empty prefix")
    _remove_dataset(place, names)
    place.write(NOTED, [content])
    return Lock(content, frozenset())


def still_locked(place: Filesystem, settings: bytes) -> None:
    """Raise SkelpipeError where another prepare has taken the place over, or has finished there."""
    if place.size(NOTED) is None or place.read(NOTED) != settings:
        raise SkelpipeError(f"{place}: another prepare writes there: let one finish, then run the command again")


def release(place: Filesystem, names: frozenset[str] | None = None) -> None:
    """Remove the notes about a finished dataset, the settings first: receipts alone are only in the way."""
    for name in sorted(place.names() if names is None else names, key=lambda name: name != NOTED):
        if name.startswith(NOTE):
            place.remove(name)


def _parsed(settings: bytes, place: Filesystem) -> dict[str, Any]:
    try:
        before: dict[str, Any] = json.loads(settings)
        return before
    except ValueError:
        raise SkelpipeError(f"{place}/{NOTED}: is damaged: remove it") from None


def _remove_dataset(place: Filesystem, names: frozenset[str]) -> None:
    """Remove a dataset's files, the card first, and nothing else that may lie there."""
    for name in sorted(names, key=lambda name: name != CARD):
        if name == CARD or name in OURS_TOO or name.startswith(OURS):
            place.remove(name)
