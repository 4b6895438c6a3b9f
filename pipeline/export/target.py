"""The folder of an export: all files appear together when they are complete, and none is replaced unasked."""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from skelpipe.door.refusals import refusal
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import PART

__all__ = ["filled_folder"]


@contextmanager
def filled_folder(out: Path, names: Sequence[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder beside `out` to write the files and folders `names` into; then move them into `out`.

    If writing fails, `out` stays as it was. Raises UsageError where one of the names is there already, unless
    `overwrite`, and SkelpipeError where the disk cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file, and a folder is needed")
    there = [name for name in names if (out / name).exists() or (out / name).is_symlink()]
    if there and not overwrite:
        raise UsageError(f"{out / there[0]}: is there already: pass --overwrite to replace it, or another --out")
    work = out.absolute().with_name(f".{out.absolute().name}.{secrets.token_hex(4)}{PART}")
    try:
        work.mkdir(parents=True)
        yield work
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            _move(work / name, out / name)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(work, ignore_errors=True)
        if (said := refusal(error, work.parent)) is not None:
            raise SkelpipeError(f"{out}: cannot be written: {said}") from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move(made: Path, place: Path) -> None:
    """Move a file or folder to its place; what was there is removed only when the new one is."""
    if not place.is_dir() or place.is_symlink():
        os.replace(made, place) if made.is_file() else _replace_by_folder(made, place)
        return
    old = made.with_name(f"{made.name}.old")
    os.rename(place, old)
    try:
        os.rename(made, place)
    except OSError:
        with suppress(OSError):
            os.rename(old, place)
        raise


def _replace_by_folder(made: Path, place: Path) -> None:
    if place.is_symlink() or place.exists():
        place.unlink()
    os.rename(made, place)
