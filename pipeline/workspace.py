"""Claiming an output folder: one prepare at a time, cut-off work is continued, other options are refused."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skelpipe.card import CARD, SAMPLES, read_card
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import PART, write_json
from skelpipe.manifest import SIDES

__all__ = ["README", "WORK", "claimed"]

README = "README.md"
WORK = ".prepare"
SETTINGS = "settings.json"


@contextmanager
def claimed(
    out: Path, settings: Mapping[str, Any], *, overwrite: bool, raw_times: str = "", newest: int = 0
) -> Iterator[Path | None]:
    """Hold the folder `out` for one prepare; yield its work folder, or None if it already holds this dataset.

    It does when its card has the same settings and is not older than `newest`, the time in ns at which the last
    raw file was written. `raw_times` stands for the times of all of them; while work is cut off none may change.

    The work folder keeps the settings and the receipts of finished shards until the caller is through; then it
    goes. `overwrite` removes a dataset, finished or not, that was made with other settings.
    """
    work = out / WORK
    try:
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out}: is a file")
        if (out / CARD).exists() and not work.exists():
            card = read_card(out)
            made_with = {**card["options"], "raw_fingerprint": card["raw_fingerprint"], "formats": card["formats"]}
            if made_with == settings and newest <= (out / CARD).stat().st_mtime_ns:
                yield None
                return
            _refuse_unless(overwrite, out, made_with, settings)
            _remove(out)
        elif out.exists() and not work.exists() and any(out.iterdir()):
            raise UsageError(f"--out {out}: holds files that are no dataset of ours: choose an empty folder")
        work.mkdir(parents=True, exist_ok=True)
        with open(work / "lock", "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{out}: another prepare is writing there") from None
            for part in out.rglob(f"*{PART}"):  # what a killed prepare left half-written
                part.unlink(missing_ok=True)
            _settle(out, work, {**settings, "raw_times": raw_times}, overwrite)
            yield work
        shutil.rmtree(work)
    except OSError as error:
        raise SkelpipeError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from error


def _settle(out: Path, work: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    """Compare the settings with those of a cut-off prepare, if there was one, and note them down."""
    path = work / SETTINGS
    if path.is_file():
        before = json.loads(path.read_bytes())
        if before == settings:
            return
        _refuse_unless(overwrite, out, before, settings)
        _remove(out)
        for receipt in work.glob("*-*.*"):
            receipt.unlink()
    write_json(path, settings)


def _refuse_unless(overwrite: bool, out: Path, before: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    if overwrite:
        return
    differing = [
        f"{key} was {before.get(key)}, is {settings.get(key)}"
        for key in sorted({*before, *settings} - {"raw_fingerprint", "raw_times"})
        if before.get(key) != settings.get(key)
    ] or ["the raw files have changed since"]
    raise UsageError(
        f"{out} holds a dataset made otherwise ({'; '.join(differing)}): choose another --out or pass --overwrite"
    )


def _remove(out: Path) -> None:
    """Remove a dataset's files, the card first, and nothing else that may lie there."""
    for name in (CARD, SAMPLES, README, *(f"{side}.h5" for side in SIDES)):
        (out / name).unlink(missing_ok=True)
    for name in (*SIDES, "anchors", "untrimmed"):
        if (out / name).exists():
            shutil.rmtree(out / name)
