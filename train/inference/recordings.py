"""Raw recordings by path, folder, archive or URL."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path

from skelpipe.errors import UsageError
from skelpipe.manifest import Manifest
from skelpipe.prepare.import_fetch import Fetched, fetched
from skelpipe.raw.frame_files import joined
from skelpipe.raw.poses.formats import reads_frame_files
from skelpipe.raw.source import ARCHIVES, RawFile, find_raw_files

__all__ = ["find_recordings", "recordings"]


@contextmanager
def recordings(
    names: Sequence[str | Path], manifest: Manifest, *, work: Path | None = None, quiet: bool = True
) -> Iterator[tuple[list[RawFile], Fetched]]:
    """Fetch what lies at URLs into `work` (else a temporary folder) for as long as the context lasts; yield all
    recordings, and what fetched files are called.
    """
    with fetched([each for name in names for each in _matching(str(name))], work, quiet=quiet) as local:
        yield find_recordings(local.paths, manifest), local


def _matching(name: str) -> list[str]:
    """Return the paths that a pattern with `*`, `?` or `[` matches, in order; `**` is any number of folders.

    What exists under its name, and what is at a URL, is no pattern. UsageError where nothing matches.
    """
    if "://" in name or not has_magic(name) or Path(name).exists():
        return [name]
    if found := sorted(glob(name, recursive=True)):
        return found
    raise UsageError(f"{name}: no file has a name like this")


def find_recordings(names: Sequence[str | Path], manifest: Manifest) -> list[RawFile]:
    """Return the recordings that files, folders and archives hold, in this order.

    A file is a recording whatever its name; in folders and archives a file is one if it has a suffix of the
    manifest's recordings. A file that is given twice, such as by itself and in its folder, is one recording.
    UsageError for a name that there is nothing at, and for a folder without a recording.
    """
    found: list[RawFile] = []
    for name in map(str, names):
        path = Path(name)
        if not path.is_dir() and not (path.is_file() and name.lower().endswith(ARCHIVES)):
            found.append(RawFile(path.name, name, 0))  # a missing one is reported when it is read
            continue
        files = [file for file in find_raw_files([path]) if manifest.identity(file.named) is not None]
        if not files:
            wanted = " or ".join(manifest.suffixes)
            raise UsageError(f"{name}: holds no recording of {manifest.name}, that is no file *{wanted}")
        found += files
    once: dict[str, RawFile] = {}
    for file in found:
        once.setdefault(os.path.realpath(file.path), file)
    found = list(once.values())
    return joined(found, manifest.suffixes) if reads_frame_files(manifest.reader) else found
