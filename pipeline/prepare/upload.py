"""Upload files to a remote filesystem through a scratch folder; each file is read back.

A worker of `prepare --out URL` writes a shard into a scratch folder, uploads it and removes the folder, so that
the local disk never holds more than one shard per worker.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from skelpipe.errors import SkelpipeError
from skelpipe.files import size_and_hash, size_and_hash_of
from skelpipe.locks import locked, remove_folder
from skelpipe.prepare.folder_lock import WORK
from skelpipe.prepare.remote_lock import WORK_PREFIX, still_locked
from skelpipe.prepare.shard_writer import ShardJob
from skelpipe.prepare.untrimmed_writer import VideoJob
from skelpipe.storage.filesystem import Filesystem, LocalFilesystem
from skelpipe.storage.retry import Retries

__all__ = ["UploadJob", "clear_scratch", "name_of", "put", "scratch_folder"]

SCRATCH = "skelpipe-prepare-"
LOCK = "lock"
CHUNK = 8 << 20  # bytes per write, each one part of the upload


@dataclass(frozen=True)
class UploadJob:
    """A shard to write into a scratch folder under `work` (None: the folder for temporary files) and to upload.

    `settings` is the content of the settings file at `target` while this prepare holds its lock.
    """

    job: ShardJob | VideoJob
    target: Filesystem = field(repr=False)
    settings: bytes = field(repr=False)
    work: Path | None

    def __call__(self) -> None:
        with scratch_folder(self.work) as folder:
            replace(self.job, out=folder, receipts=folder / WORK)()
            still_locked(self.target, self.settings)
            names = [name for name in LocalFilesystem(folder).names() if name != LOCK]
            for name in sorted(names, key=_upload_order):
                put(self.target, name_of(name), folder / name)


def name_of(name: str) -> str:
    """Return the name at the target: files of the work folder get the prefix `WORK_PREFIX` instead."""
    return WORK_PREFIX + name.removeprefix(f"{WORK}/") if name.startswith(f"{WORK}/") else name


def _upload_order(name: str) -> tuple[bool, bool, str]:
    """Sort tars and indices first, then the files beside the receipt, the receipt last."""
    return name.startswith(f"{WORK}/"), name.endswith(".json"), name


def put(target: Filesystem, name: str, path: Path) -> None:
    """Upload a file and read it back; retry if the connection breaks, then raise SkelpipeError."""

    def attempt() -> None:
        with open(path, "rb", buffering=0) as file:
            target.write(name, iter(lambda: file.read(CHUNK), b""))

    try:
        expected = size_and_hash(path)
        Retries().call(attempt)
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot be read: {error.strerror or error}") from error
    if size_and_hash_of(target.stream(name)) != expected:
        target.remove(name)
        raise SkelpipeError(f"{target}/{name}: does not read back as it was written: run prepare again")


@contextmanager
def scratch_folder(work: Path | None) -> Iterator[Path]:
    """Yield a new folder under `work` (None: the folder for temporary files), which is removed with the context.

    The folder of a killed process stays, unlocked, for `clear_scratch`. SkelpipeError if it cannot be created.
    """
    try:
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=work))
    except OSError as error:
        raise SkelpipeError(
            f"{work or tempfile.gettempdir()}: cannot create a work folder here: {error.strerror}"
        ) from error
    with ExitStack() as held:
        held.enter_context(locked(folder / LOCK))
        try:
            yield folder
        finally:
            with suppress(OSError):
                remove_folder(folder, held)


def clear_scratch(work: Path | None) -> None:
    """Remove the scratch folders of killed workers under `work`; those in use are locked and stay."""
    for folder in (work or Path(tempfile.gettempdir())).glob(f"{SCRATCH}*"):
        with suppress(OSError):
            if (folder / LOCK).exists():
                held = ExitStack()
                held.enter_context(locked(folder / LOCK, wait=False))
                remove_folder(folder, held)
