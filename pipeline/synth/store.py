"""Write synthetic recordings into a folder: each file whole or absent, never mixed with other recordings."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import replacing
from skelpipe.ownership import owned

__all__ = ["RenderJob", "Rendered", "Tally", "write_recordings"]

CHUNK = 8  # jobs that a worker receives at a time
RECORDINGS = ("*.skeleton", "*_skeleton3D.txt", "a*_v*.json", "skeleton/*.txt", "label/*.txt")  # of every dataset
PROBES = 2  # jobs that are rendered before anything is written, to compare with existing files


@dataclass(frozen=True)
class Rendered:
    """The content of a job's files by path in the folder, and the number of recordings, clips and frames."""

    files: dict[str, bytes]
    recordings: int
    clips: int
    frames: int


@dataclass(frozen=True)
class RenderJob:
    """Files that are rendered together: their paths in the folder, and the picklable call that renders them."""

    paths: tuple[str, ...]
    render: Callable[[], Rendered]


@dataclass(frozen=True)
class Tally:
    """What one job has written."""

    recordings: int
    clips: int
    frames: int
    bytes: int


def write_recordings(out: str | Path, jobs: Sequence[RenderJob], *, workers: int = 1) -> Iterator[Tally]:
    """Write the files of all jobs into the folder `out`; yield the tally of each job.

    A file gets its name only when it is complete. Existing files must equal what would be written, so a rerun
    completes a run that was cut off. Raises UsageError, before it writes anything, if `out` holds recordings that
    this call would not write, or that other options have written.
    """
    folder = Path(out)
    _refuse_others(folder, jobs)
    write = partial(_write, folder)
    with owned(folder, "synth"):
        if workers == 1:
            yield from map(write, jobs)
            return
        with ProcessPoolExecutor(workers) as pool:
            try:
                yield from pool.map(write, jobs, chunksize=CHUNK)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _refuse_others(folder: Path, jobs: Sequence[RenderJob]) -> None:
    planned = {path for job in jobs for path in job.paths}
    existing = {path.relative_to(folder).as_posix() for pattern in RECORDINGS for path in folder.glob(pattern)}
    foreign = sorted(existing - planned)
    if foreign:
        raise UsageError(
            f"{folder} already holds {len(foreign)} recordings that this command would not write, such as "
            f"{foreign[0]}; choose another --out"
        )
    begun = (job for job in jobs if any((folder / path).exists() for path in job.paths))
    for job in islice(begun, PROBES):
        for path, content in job.render().files.items():
            if (folder / path).exists():
                _require_same(folder / path, content)


def _require_same(path: Path, content: bytes) -> None:
    try:
        same = path.read_bytes() == content
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot be read: {error.strerror}") from None
    if not same:
        raise UsageError(f"{path} was written with other options or by another version; choose another --out")


def _write(folder: Path, job: RenderJob) -> Tally:
    rendered = job.render()
    for name, content in rendered.files.items():
        path = folder / name
        if path.exists():
            _require_same(path, content)
        else:
            with replacing(path) as file:
                file.write(content)
    size = sum(map(len, rendered.files.values()))
    return Tally(rendered.recordings, rendered.clips, rendered.frames, size)
