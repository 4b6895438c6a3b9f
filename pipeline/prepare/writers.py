"""The writers of `prepare`: into a local folder, or into a remote filesystem through a scratch folder."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from skelpipe.dataset.card import CARD, SAMPLES, read_card
from skelpipe.dataset.inventory import inventory
from skelpipe.dataset.untrimmed import tar_name
from skelpipe.errors import UsageError
from skelpipe.files import flush_to_disk, replacing, write_json
from skelpipe.ownership import check_owned
from skelpipe.prepare.engines import Job
from skelpipe.prepare.folder_lock import README, WORK, Changed, locked
from skelpipe.prepare.hdf5_writer import remove_shards, write_hdf5_subsets
from skelpipe.prepare.remote_lock import OWNER_FILE, Lock, lock_filesystem, release, still_locked
from skelpipe.prepare.remote_owner import RemoteOwner, owned_remotely
from skelpipe.prepare.shard_writer import ShardJob, dropped_damaged, read_receipt, shard_file
from skelpipe.prepare.untrimmed_writer import VideoJob, read_video_receipt
from skelpipe.prepare.upload import UploadJob, name_of, put, scratch_folder
from skelpipe.storage.filesystem import Filesystem, LocalFilesystem
from skelpipe.storage.reread import read_parsed
from skelpipe.views import VIEWS

__all__ = ["DatasetWriter", "open_writer"]

T = TypeVar("T")

# numpy parses the header by `ast`, which in some versions of Python 3.11 fails on several threads at once.
_PARSING = threading.Lock()
AT_ONCE = 8  # receipts fetched at the same time


class DatasetWriter(Protocol):
    """The writer of one prepare. Jobs write into `folder` and `receipts`; workers run their tasks."""

    def __str__(self) -> str:
        """The name of the target, for messages."""

    @property
    def folder(self) -> Path:
        """The folder into which the sample table, the anchors and README.md are written."""

    @property
    def receipts(self) -> Path: ...

    def task(self, job: ShardJob | VideoJob) -> Job:
        """Return the task of a worker for this job."""

    def read_receipts(self, jobs: Sequence[ShardJob | VideoJob]) -> list[dict[str, Any] | None]:
        """Return the receipt of each job whose files are complete at the target, None for each other job.

        With a shard's receipt, the file `job.joint_sum` exists too.
        """

    def drop(self, job: ShardJob | VideoJob) -> None:
        """Remove the files of a job; without them its receipt counts for nothing."""

    def hdf5(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """Write the HDF5 files beside the shards; return their entry in the card."""

    def publish(self, card: Mapping[str, Any]) -> None:
        """Write the files in `folder` to the target and, when they are complete, the card."""


@contextmanager
def open_writer(
    target: Filesystem,
    settings: Mapping[str, Any],
    *,
    overwrite: bool,
    raw_times: str,
    changed: Changed,
    work: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[DatasetWriter | dict[str, Any]]:
    """Lock the target for one prepare; yield its writer, or its card if it already holds the dataset.

    Settings and times are those of `locked`; `say` is told why it waits. `work` is the folder of the scratch
    folders for a remote target.
    """
    if target.is_local:
        out = target.local_path
        with locked(out, settings, overwrite=overwrite, raw_times=raw_times, changed=changed) as receipts:
            yield read_card(out) if receipts is None else FolderWriter(out, receipts)
        return
    if settings["formats"] != ["shards"]:
        raise UsageError(f"--out {target}: --format hdf5 and both need a local folder; then use skelpipe copy")
    with ExitStack() as held:
        owners: list[RemoteOwner] = []

        def acquire() -> None:
            if not owners:
                owners.append(held.enter_context(owned_remotely(target, OWNER_FILE, "prepare", say)))

        lock = lock_filesystem(
            target, settings, overwrite=overwrite, raw_times=raw_times, changed=changed, acquire=acquire
        )
        if not isinstance(lock, Lock):
            yield lock
            return
        yield RemoteWriter(target, lock, owners[0], held.enter_context(scratch_folder(work)), work)


@dataclass(frozen=True)
class FolderWriter:
    """The writer of a local folder, into which jobs write directly."""

    folder: Path
    receipts: Path

    def __str__(self) -> str:
        return str(self.folder)

    def task(self, job: ShardJob | VideoJob) -> Job:
        return job

    def read_receipts(self, jobs: Sequence[ShardJob | VideoJob]) -> list[dict[str, Any] | None]:
        check_owned(self.receipts)
        return [read_receipt(job) if isinstance(job, ShardJob) else read_video_receipt(job) for job in jobs]

    def drop(self, job: ShardJob | VideoJob) -> None:
        for name in _file_names(job):
            (self.folder / name).unlink()

    def hdf5(self, card: Mapping[str, Any]) -> dict[str, Any]:
        return write_hdf5_subsets(card, self.folder)

    def publish(self, card: Mapping[str, Any]) -> None:
        check_owned(self.receipts)
        for data in inventory(card):  # every file that the card lists is on disk before the card
            flush_to_disk(self.folder / data.name)
        write_json(self.folder / CARD, card, durable=True)
        if "shards" not in card["formats"]:
            remove_shards(card, self.folder)


@dataclass(frozen=True)
class RemoteWriter:
    """The writer of a locked remote target; workers upload shard by shard, `folder` keeps small files only."""

    target: Filesystem
    lock: Lock
    owner: RemoteOwner
    folder: Path
    work: Path | None

    def __str__(self) -> str:
        return str(self.target)

    @property
    def receipts(self) -> Path:
        return self.folder / WORK

    def task(self, job: ShardJob | VideoJob) -> Job:
        return UploadJob(job, self.target, self.lock.settings, self.work)

    def read_receipts(self, jobs: Sequence[ShardJob | VideoJob]) -> list[dict[str, Any] | None]:
        present = frozenset(self.target.names())  # one request, not one per file
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda job: self._read_receipt(job, present), jobs))

    def _read_receipt(self, job: ShardJob | VideoJob, present: frozenset[str]) -> dict[str, Any] | None:
        """Return the receipt of a job; it was uploaded after its files, which had been read back."""
        names = [self._name(job.receipt)]
        names += [*_shard_names(job), self._name(job.joint_sum)] if isinstance(job, ShardJob) else []
        if not present.issuperset(names):
            return None
        try:
            receipt: dict[str, Any] = self._fetched(job.receipt, json.loads)
            if isinstance(job, ShardJob):
                self._fetched(job.joint_sum, _array)
        except ValueError:  # damaged: written again
            return None
        if receipt["settings"] != job.settings:
            return None
        if isinstance(job, ShardJob) and "raw_xxh128" not in receipt:  # an earlier skelpipe hashed by sha256
            return None
        if isinstance(job, VideoJob):
            tar: dict[str, Any] = receipt["tar"]
            complete = job.skip_bad or len(tar["videos"]) == len(job.shard.videos)
            return tar if complete and self._name(job.tar) in present else None
        return None if dropped_damaged(receipt) and not job.skip_bad else receipt

    def _fetched(self, path: Path, parse: Callable[[bytes], T]) -> T:
        """Return the parsed content of a file at the target, or raise `parse`'s error; save it at `path`."""
        content, parsed = read_parsed(self.target, self._name(path), parse)
        with replacing(path) as file:
            file.write(content)
        return parsed

    def _name(self, path: Path) -> str:
        return name_of(path.relative_to(self.folder).as_posix())

    def drop(self, job: ShardJob | VideoJob) -> None:
        for name in _file_names(job):
            self.target.remove(name)

    def hdf5(self, card: Mapping[str, Any]) -> dict[str, Any]:
        raise UsageError(f"{self.target}: HDF5 files are written to a folder only")

    def publish(self, card: Mapping[str, Any]) -> None:
        small = {SAMPLES, README, *(f"anchors/{view}.npy" for view in VIEWS)}
        for name in LocalFilesystem(self.folder).names():
            if name in small:
                put(self.target, name, self.folder / name)
        still_locked(self.target, self.lock.settings)
        self.owner.check()
        write_json(self.folder / CARD, card)
        put(self.target, CARD, self.folder / CARD)
        release(self.target)


def _array(content: bytes) -> np.ndarray:
    """Return the array of a .npy file; ValueError if it is too short or too long."""
    file = BytesIO(content)
    try:
        with _PARSING:
            array: np.ndarray = np.load(file, allow_pickle=False)
    except EOFError:
        raise ValueError("the file is empty") from None
    if file.read(1):
        raise ValueError("there are bytes after the array")
    return array


def _file_names(job: ShardJob | VideoJob) -> list[str]:
    return _shard_names(job) if isinstance(job, ShardJob) else [tar_name(job.shard.subset, job.shard.name)]


def _shard_names(job: ShardJob) -> list[str]:
    """Return the names of a shard's tars and indices in the dataset."""
    tars = [shard_file(Path(), job.shard.subset, view, job.shard.name) for view in VIEWS]
    return [path.as_posix() for tar in tars for path in (tar, tar.with_suffix(".idx"))]
