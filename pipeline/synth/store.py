"""Synthetic recordings as files in a folder: each whole or absent, and never among others."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import replacing
from skelpipe.synth.generate import Options, recordings
from skelpipe.synth.names import CAMERAS, Performance

__all__ = ["write_recordings"]

CHUNK = 8  # performances a worker takes at a time


def write_recordings(
    out: str | Path, options: Options, performances: Sequence[Performance], *, workers: int = 1
) -> Iterator[int]:
    """Write the recordings of `performances` into the folder `out`; yield the bytes of each performance.

    A file appears under its name only when it is whole. Files that are already there must be what would be
    written, so a rerun completes a cut-off run. Raises UsageError, before it writes anything, where `out` holds
    recordings that this call would not write, or that were made with other options.
    """
    folder = Path(out)
    _refuse_others(folder, options, performances)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SkelpipeError(f"{folder}: cannot be made: {error.strerror}") from None
    write = partial(_write_performance, folder, options)
    if workers == 1:
        yield from map(write, performances)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(write, performances, chunksize=CHUNK)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _refuse_others(folder: Path, options: Options, performances: Sequence[Performance]) -> None:
    there = {path.name for path in folder.glob("*.skeleton")}
    planned = {p.file_name(camera): p for p in performances for camera in CAMERAS}
    foreign = sorted(there - planned.keys())
    if foreign:
        raise UsageError(
            f"{folder} already holds {len(foreign)} recordings that this command would not write, such as "
            f"{foreign[0]}; choose another --out"
        )
    for name in sorted(there)[:1]:
        _require_same(folder / name, recordings(options, planned[name])[name])


def _require_same(path: Path, content: bytes) -> None:
    try:
        same = path.read_bytes() == content
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot be read: {error.strerror}") from None
    if not same:
        raise UsageError(f"{path} was made with other options or by another version; choose another --out")


def _write_performance(folder: Path, options: Options, performance: Performance) -> int:
    written = 0
    for name, content in recordings(options, performance).items():
        path = folder / name
        if path.exists():
            _require_same(path, content)
        else:
            with replacing(path) as file:
                file.write(content)
        written += len(content)
    return written
