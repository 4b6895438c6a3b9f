"""Files of this machine to a place elsewhere: each read back before it counts, through a scratch folder that goes.

A worker of `prepare --out URL` writes a shard into a scratch folder of its own, uploads it and removes the folder:
no more than one shard a worker is ever on the local disk.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from skelpipe.errors import SkelpipeError
from skelpipe.files import size_and_hash, size_and_hash_of
from skelpipe.prepare.folder_lock import WORK
from skelpipe.prepare.remote_lock import NOTE, still_locked
from skelpipe.prepare.shard_writer import ShardJob
from skelpipe.prepare.untrimmed_writer import VideoJob
from skelpipe.storage.filesystem import Filesystem, LocalFilesystem
from skelpipe.storage.retry import Retries

__all__ = ["UploadJob", "clear_scratch", "name_of", "put", "scratch_folder"]

SCRATCH = "skelpipe-prepare-"
LOCK = "lock"
CHUNK = 8 << 20  # bytes a write: a part of an upload each


@dataclass(frozen=True)
class UploadJob:
    """A shard to write into a scratch folder under `work` (None: the machine's own) and upload to `place`.

    `claim` are the settings noted down at the place while this prepare may write there.
    """

    job: ShardJob | VideoJob
    place: Filesystem = field(repr=False)
    claim: bytes = field(repr=False)
    work: Path | None

    def __call__(self) -> None:
        with scratch_folder(self.work) as folder:
            replace(self.job, out=folder, receipts=folder / WORK)()
            still_locked(self.place, self.claim)
            names = [name for name in LocalFilesystem(folder).names() if name != LOCK]
            for name in sorted(names, key=_turn):
                put(self.place, name_of(name), folder / name)


def name_of(name: str) -> str:
    """Return a file's name at the place: what the work folder holds here is a note there."""
    return NOTE + name.removeprefix(f"{WORK}/") if name.startswith(f"{WORK}/") else name


def _turn(name: str) -> tuple[bool, bool, str]:
    """Tars and indices first, then what the receipt goes with, the receipt last."""
    return name.startswith(f"{WORK}/"), name.endswith(".json"), name


def put(place: Filesystem, name: str, path: Path) -> None:
    """Upload a file and read it back; tried again where the line breaks, SkelpipeError where that is no help."""

    def attempt() -> None:
        with open(path, "rb", buffering=0) as file:
            place.write(name, iter(lambda: file.read(CHUNK), b""))

    try:
        expected = size_and_hash(path)
        Retries().call(attempt)
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot be read: {error.strerror or error}") from error
    if size_and_hash_of(place.stream(name)) != expected:
        place.remove(name)
        raise SkelpipeError(f"{place}/{name}: reads back otherwise than it was written: run prepare again")


@contextmanager
def scratch_folder(work: Path | None) -> Iterator[Path]:
    """Yield a new folder under `work` (None: the folder for temporary files); it goes with the context.

    Of a process that is killed it stays, unlocked, for `clear_scratch`. SkelpipeError where it cannot be made.
    """
    try:
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=work))
    except OSError as error:
        raise SkelpipeError(f"{work or tempfile.gettempdir()}: no work folder here: {error.strerror}") from error
    with open(folder / LOCK, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def clear_scratch(work: Path | None) -> None:
    """Remove the scratch folders that killed workers left under `work`; those in use are locked and stay."""
    for folder in (work or Path(tempfile.gettempdir())).glob(f"{SCRATCH}*"):
        with suppress(OSError), open(folder / LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
