"""The lock of an output folder: one prepare at a time; unfinished work is continued, other options are refused."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from skelpipe.dataset.card import CARD, SAMPLES, read_card, read_table
from skelpipe.door.refusals import refusal
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import PART, write_json
from skelpipe.locks import remove_folder
from skelpipe.manifest import SUBSETS
from skelpipe.ownership import owned
from skelpipe.preprocess import Policies

__all__ = ["README", "SETTINGS", "WORK", "Changed", "is_of", "locked", "refuse_unless", "settings_of"]

README = "README.md"
WORK = ".prepare"
SETTINGS = "settings.json"
# Settings that are hashes, and what a difference means.
HASHES = {
    "definition": "the dataset's definition or its split's lists have changed since",
    "raw_fingerprint": "the raw files have changed since",
    "raw_times": "the raw files have changed since",
}


class Changed(Protocol):
    """`skelpipe.prepare.provenance.changed_since` of a plan: which raw files changed, in words; "" for none."""

    def __call__(self, card: Mapping[str, Any], table: bytes, where: object, *, card_time: int | None) -> str: ...


def _never(card: Mapping[str, Any], table: bytes, where: object, *, card_time: int | None) -> str:
    return ""


@contextmanager
def locked(
    out: Path, settings: Mapping[str, Any], *, overwrite: bool, raw_times: str = "", changed: Changed = _never
) -> Iterator[Path | None]:
    """Lock the folder `out` for one prepare; yield its work folder, or None if it already holds this dataset.

    It does if its card has the same settings and no raw file has `changed`. `raw_times` is a hash of the times of
    all raw files; unfinished work is continued only if it is the same. The work folder keeps the settings and the
    receipts of finished shards until the caller is done, and is then removed. `overwrite` removes a dataset with
    other settings, finished or not.
    """
    work = out / WORK
    try:
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out}: is a file")
        if not work.exists():
            if _holds(out, settings, changed, overwrite=overwrite):
                yield None
                return
            if out.exists() and not (out / CARD).exists() and any(out.iterdir()):
                raise UsageError(
                    f"--out {out}: holds files that are not of a skelpipe dataset: choose an empty folder"
                )
            if (out / CARD).exists():
                refuse_unless(overwrite, out, settings_of(read_card(out)), settings)
        work.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.enter_context(owned(work, "prepare", shown=out))
            _remove_parts(out)
            done = _settle(out, work, settings, raw_times, changed, overwrite)
            yield None if done else work
            _remove_parts(out)
            remove_folder(work, held)
    except OSError as error:
        raise SkelpipeError(f"{error.filename or out}: cannot be written: {refusal(error, out)}") from error


def _remove_parts(out: Path) -> None:
    """Remove incomplete files of a killed prepare, or of a lost worker of this one."""
    for part in out.rglob(f"*{PART}"):
        part.unlink(missing_ok=True)


def _holds(out: Path, settings: Mapping[str, Any], changed: Changed, *, overwrite: bool) -> bool:
    """Return whether the folder holds a finished dataset with these settings, of the raw files as they are.

    UsageError where only raw files have changed, unless `overwrite`.
    """
    if not (out / CARD).exists():
        return False
    card = read_card(out)
    card_time = (out / CARD).stat().st_mtime_ns
    look = partial(changed, card, where=out, card_time=card_time)
    return is_of(card, settings, lambda: look(read_table(out, card)), out, overwrite=overwrite)


def is_of(
    card: Mapping[str, Any],
    settings: Mapping[str, Any],
    changed: Callable[[], str],
    out: object,
    *,
    overwrite: bool,
) -> bool:
    """Return whether a card has these settings and no raw files have `changed`, which names those.

    UsageError where nothing but raw files is different, unless `overwrite`.
    """
    before = settings_of(card)
    differing = {key for key in {*before, *settings} if before.get(key) != settings.get(key)}
    if differing - {"raw_fingerprint"}:
        return False
    said = changed() if not differing or "provenance" in card else ""
    if differing:
        said = said or HASHES["raw_fingerprint"]
    if said and not overwrite:
        raise UsageError(
            f"{out} holds a dataset of other raw files: {said}: choose another --out or pass --overwrite"
        )
    return not said


def settings_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a card holds; one of version 1 says no policies and means those of the authors."""
    policies = asdict(Policies.of_options(card["options"]))
    return {
        **card["options"],
        **policies,
        **{key: card[key] for key in ("definition", "raw_fingerprint", "formats")},
    }


def _settle(
    out: Path, work: Path, settings: Mapping[str, Any], raw_times: str, changed: Changed, overwrite: bool
) -> bool:
    """Compare the settings with those of an unfinished prepare, if there is one, and save them.

    Return whether the folder already holds the dataset, so that nothing is left to do.
    """
    path = work / SETTINGS
    now = {**settings, "raw_times": raw_times}
    if path.is_file():
        before = json.loads(path.read_bytes())
        if before == now:
            return False
        refuse_unless(overwrite, out, before, now)
        _remove(out)
    elif (out / CARD).exists():
        if _holds(out, settings, changed, overwrite=overwrite):
            return True
        refuse_unless(overwrite, out, settings_of(read_card(out)), settings)
        _remove(out)
    for receipt in work.glob("*-*.*"):
        receipt.unlink()
    write_json(path, now)
    return False


def refuse_unless(overwrite: bool, out: object, before: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise UsageError that lists how the settings differ from those of `out`, unless `overwrite`."""
    if overwrite:
        return
    differing = [
        f"{key} was {before.get(key)}, is {settings.get(key)}"
        for key in sorted({*before, *settings} - HASHES.keys())
        if before.get(key) != settings.get(key)
    ]
    if not differing:
        differing = [meaning for key, meaning in HASHES.items() if before.get(key) != settings.get(key)][:1]
    differing = differing or [HASHES["raw_times"]]  # an edited file of the same name and size
    raise UsageError(
        f"{out} holds a dataset with other settings ({'; '.join(differing)}):"
        " choose another --out or pass --overwrite"
    )


def _remove(out: Path) -> None:
    """Remove the files of a dataset, the card first; keep all other files."""
    for name in (CARD, SAMPLES, README, *(f"{subset}.h5" for subset in SUBSETS)):
        (out / name).unlink(missing_ok=True)
    for name in (*SUBSETS, "anchors", "untrimmed"):
        if (out / name).exists():
            shutil.rmtree(out / name)
