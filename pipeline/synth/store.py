"""Synthetic recordings as files in a folder: each whole or absent, and never among others."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import replacing

__all__ = ["Rendered", "Take", "Tally", "write_takes"]

CHUNK = 8  # takes a worker takes at a time
RECORDINGS = ("*.skeleton", "*_skeleton3D.txt", "skeleton/*.txt", "label/*.txt")  # of every dataset
PROBES = 2  # takes that are made before anything is written, to compare with what is there


@dataclass(frozen=True)
class Rendered:
    """The content of a take's files by path in the folder, and how much of the dataset that is."""

    files: dict[str, bytes]
    recordings: int
    clips: int
    frames: int


@dataclass(frozen=True)
class Take:
    """Files that are made together: their paths in the folder, and the call that makes them in any process."""

    paths: tuple[str, ...]
    render: Callable[[], Rendered]


@dataclass(frozen=True)
class Tally:
    """What one take, or several, came to."""

    recordings: int
    clips: int
    frames: int
    bytes: int


def write_takes(out: str | Path, takes: Sequence[Take], *, workers: int = 1) -> Iterator[Tally]:
    """Write takes into the folder `out`; yield what each came to.

    A file appears under its name only when it is whole. Files that are already there must be what would be
    written, so a rerun completes a cut-off run. Raises UsageError, before it writes anything, where `out` holds
    recordings that this call would not write, or that were made with other options.
    """
    folder = Path(out)
    _refuse_others(folder, takes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SkelpipeError(f"{folder}: cannot be made: {error.strerror}") from None
    write = partial(_write, folder)
    if workers == 1:
        yield from map(write, takes)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(write, takes, chunksize=CHUNK)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _refuse_others(folder: Path, takes: Sequence[Take]) -> None:
    planned = {path for take in takes for path in take.paths}
    there = {path.relative_to(folder).as_posix() for pattern in RECORDINGS for path in folder.glob(pattern)}
    foreign = sorted(there - planned)
    if foreign:
        raise UsageError(
            f"{folder} already holds {len(foreign)} recordings that this command would not write, such as "
            f"{foreign[0]}; choose another --out"
        )
    begun = (take for take in takes if any((folder / path).exists() for path in take.paths))
    for take in islice(begun, PROBES):
        for path, content in take.render().files.items():
            if (folder / path).exists():
                _require_same(folder / path, content)


def _require_same(path: Path, content: bytes) -> None:
    try:
        same = path.read_bytes() == content
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot be read: {error.strerror}") from None
    if not same:
        raise UsageError(f"{path} was made with other options or by another version; choose another --out")


def _write(folder: Path, take: Take) -> Tally:
    rendered = take.render()
    for name, content in rendered.files.items():
        path = folder / name
        if path.exists():
            _require_same(path, content)
        else:
            with replacing(path) as file:
                file.write(content)
    size = sum(map(len, rendered.files.values()))
    return Tally(rendered.recordings, rendered.clips, rendered.frames, size)
