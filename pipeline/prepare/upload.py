"""Upload files to a remote filesystem through a scratch folder; each file is read back.

A worker of `prepare --out URL` writes a shard into a scratch folder, uploads it and removes the folder, so that
the local disk never holds more than one shard per worker.
"""

import secrets
import shutil
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

__all__ = ["UploadJob", "name_of", "put", "scratch_cleared", "scratch_folder"]

SCRATCH = "skelpipe-prepare-"
LOCK = "lock"
CONTENT = "content"
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
            for name in sorted(LocalFilesystem(folder).names(), key=_upload_order):
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

    That of a killed process stays, unlocked, for `scratch_cleared`. SkelpipeError if it cannot be created.
    """
    folder = _place(work) / f"{SCRATCH}{secrets.token_hex(6)}"
    with ExitStack() as held:
        try:
            try:
                folder.mkdir(0o700, parents=True)
                held.enter_context(locked(folder / LOCK))
                (folder / CONTENT).mkdir()
            except OSError as error:
                raise SkelpipeError(
                    f"{folder.parent}: cannot create a work folder here: {error.strerror}"
                ) from error
            yield folder / CONTENT
        finally:
            _remove(folder, held)


@contextmanager
def scratch_cleared(work: Path | None) -> Iterator[None]:
    """Remove the scratch folders of killed workers under `work`, before and after; those in use stay.

    A worker that is interrupted again while it removes its folder, or killed, leaves it too.
    """
    _clear(work)
    try:
        yield
    finally:
        _clear(work)


def _clear(work: Path | None) -> None:
    for folder in _place(work).glob(f"{SCRATCH}*"):
        with suppress(OSError):
            if (folder / LOCK).exists():
                held = ExitStack()
                held.enter_context(locked(folder / LOCK, wait=False))
                _remove(folder, held)


def _place(work: Path | None) -> Path:
    return work or Path(tempfile.gettempdir())


def _remove(folder: Path, held: ExitStack) -> None:
    """Remove a scratch folder, its lock last: without it nobody would know whether the rest is in use."""
    shutil.rmtree(folder / CONTENT, ignore_errors=True)
    with suppress(OSError):
        remove_folder(folder, held)
