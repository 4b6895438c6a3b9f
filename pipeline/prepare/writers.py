"""Where `prepare` leaves what it makes: a folder here, or a place elsewhere by way of a scratch folder."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from skelpipe.dataset.card import CARD, SAMPLES, read_card
from skelpipe.dataset.inventory import inventory
from skelpipe.errors import UsageError
from skelpipe.files import flush_to_disk, replacing, write_json
from skelpipe.prepare.engines import Job
from skelpipe.prepare.folder_lock import README, WORK, locked
from skelpipe.prepare.hdf5_writer import remove_shards, write_hdf5_subsets
from skelpipe.prepare.remote_lock import Lock, lock_filesystem, release, still_locked
from skelpipe.prepare.shard_writer import ShardJob, read_receipt, shard_file
from skelpipe.prepare.untrimmed_writer import VideoJob, read_video_receipt
from skelpipe.prepare.upload import UploadJob, clear_scratch, name_of, put, scratch_folder
from skelpipe.storage.filesystem import Filesystem, LocalFilesystem
from skelpipe.storage.reread import read_parsed
from skelpipe.views import VIEWS

__all__ = ["DatasetWriter", "open_writer"]

T = TypeVar("T")

AT_ONCE = 8  # receipts fetched side by side


class DatasetWriter(Protocol):
    """The target of one prepare. Jobs are made for `folder` and `receipts`; tasks are what workers do."""

    def __str__(self) -> str:
        """The target's name, for messages."""

    @property
    def folder(self) -> Path:
        """Where the sample table, the anchors and README.md are written."""

    @property
    def receipts(self) -> Path: ...

    def task(self, job: ShardJob | VideoJob) -> Job:
        """Return what a worker has to do for this job."""

    def read_receipts(self, jobs: Sequence[ShardJob | VideoJob]) -> list[dict[str, Any] | None]:
        """Return the receipt of each job whose files are whole at the target, None for each to do (again).

        The sum of a shard's clips is then at hand as well, as `job.joint_sum`.
        """

    def drop(self, job: ShardJob) -> None:
        """Remove a shard's files."""

    def hdf5(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """Write the HDF5 files beside the shards; return the card's entry of them."""

    def publish(self, card: Mapping[str, Any]) -> None:
        """Bring what lies in `folder` to the target and, when all is there, the card."""


@contextmanager
def open_writer(
    place: Filesystem,
    settings: Mapping[str, Any],
    *,
    overwrite: bool,
    raw_times: str,
    newest: int,
    work: Path | None = None,
) -> Iterator[DatasetWriter | dict[str, Any]]:
    """Hold the target for one prepare; yield the way to it, or the card of the dataset that is there already.

    Settings and times as `locked` has them. `work` is where scratch folders for a place elsewhere are made.
    """
    if place.is_local:
        out = place.local_path
        with locked(out, settings, overwrite=overwrite, raw_times=raw_times, newest=newest) as receipts:
            yield read_card(out) if receipts is None else FolderWriter(out, receipts)
        return
    if settings["formats"] != ["shards"]:
        raise UsageError(f"--out {place}: --format hdf5 and both need a local folder; copy it then: skelpipe copy")
    clear_scratch(work)
    lock = lock_filesystem(place, settings, overwrite=overwrite, raw_times=raw_times)
    if not isinstance(lock, Lock):
        yield lock
        return
    with scratch_folder(work) as folder:
        yield RemoteWriter(place, lock, folder, work)


@dataclass(frozen=True)
class FolderWriter:
    """A folder of this machine, which jobs write into."""

    folder: Path
    receipts: Path

    def __str__(self) -> str:
        return str(self.folder)

    def task(self, job: ShardJob | VideoJob) -> Job:
        return job

    def read_receipts(self, jobs: Sequence[ShardJob | VideoJob]) -> list[dict[str, Any] | None]:
        return [read_receipt(job) if isinstance(job, ShardJob) else read_video_receipt(job) for job in jobs]

    def drop(self, job: ShardJob) -> None:
        for name in _shard_names(job):
            (self.folder / name).unlink()

    def hdf5(self, card: Mapping[str, Any]) -> dict[str, Any]:
        return write_hdf5_subsets(card, self.folder)

    def publish(self, card: Mapping[str, Any]) -> None:
        for data in inventory(card):  # whatever the card promises is on disk before the card is
            flush_to_disk(self.folder / data.name)
        write_json(self.folder / CARD, card, durable=True)
        if "shards" not in card["formats"]:
            remove_shards(card, self.folder)


@dataclass(frozen=True)
class RemoteWriter:
    """A locked place, to which workers upload shard by shard; `folder` keeps small files only."""

    place: Filesystem
    lock: Lock
    folder: Path
    work: Path | None

    def __str__(self) -> str:
        return str(self.place)

    @property
    def receipts(self) -> Path:
        return self.folder / WORK

    def task(self, job: ShardJob | VideoJob) -> Job:
        return UploadJob(job, self.place, self.lock.settings, self.work)

    def read_receipts(self, jobs: Sequence[ShardJob | VideoJob]) -> list[dict[str, Any] | None]:
        present = frozenset(self.place.names())  # one request, not one a file
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda job: self._read_receipt(job, present), jobs))

    def _read_receipt(self, job: ShardJob | VideoJob, present: frozenset[str]) -> dict[str, Any] | None:
        """Return a receipt; it went up after the files it tells of, and they had been read back."""
        names = [self._name(job.receipt)]
        names += [*_shard_names(job), self._name(job.joint_sum)] if isinstance(job, ShardJob) else []
        if not present.issuperset(names):
            return None
        try:
            receipt: dict[str, Any] = self._fetched(job.receipt, json.loads)
            if isinstance(job, ShardJob):
                self._fetched(job.joint_sum, _array)
        except ValueError:  # damaged: made again
            return None
        if receipt["settings"] != job.settings:
            return None
        if isinstance(job, VideoJob):
            tar: dict[str, Any] = receipt["tar"]
            complete = job.skip_bad or len(tar["videos"]) == len(job.shard.videos)
            return tar if complete and self._name(job.tar) in present else None
        return None if receipt["drops"] and not job.skip_bad else receipt

    def _fetched(self, path: Path, parse: Callable[[bytes], T]) -> T:
        """Return what `parse` makes of a note at the place, or raise its error; keep the bytes at `path`."""
        content, parsed = read_parsed(self.place, self._name(path), parse)
        with replacing(path) as file:
            file.write(content)
        return parsed

    def _name(self, path: Path) -> str:
        return name_of(path.relative_to(self.folder).as_posix())

    def drop(self, job: ShardJob) -> None:
        for name in _shard_names(job):
            self.place.remove(name)

    def hdf5(self, card: Mapping[str, Any]) -> dict[str, Any]:
        raise UsageError(f"{self.place}: HDF5 files are written to a folder only")

    def publish(self, card: Mapping[str, Any]) -> None:
        small = {SAMPLES, README, *(f"anchors/{view}.npy" for view in VIEWS)}
        for name in LocalFilesystem(self.folder).names():
            if name in small:
                put(self.place, name, self.folder / name)
        still_locked(self.place, self.lock.settings)
        write_json(self.folder / CARD, card)
        put(self.place, CARD, self.folder / CARD)
        release(self.place)


def _array(content: bytes) -> np.ndarray:
    """Return the array of a .npy file; ValueError where it is cut or too long."""
    file = BytesIO(content)
    try:
        array: np.ndarray = np.load(file, allow_pickle=False)
    except EOFError:
        raise ValueError("an empty file is no array") from None
    if file.read(1):
        raise ValueError("there are bytes after the array")
    return array


def _shard_names(job: ShardJob) -> list[str]:
    """Return the names of a shard's tars and indices within the dataset."""
    tars = [shard_file(Path(), job.shard.subset, view, job.shard.name) for view in VIEWS]
    return [path.as_posix() for tar in tars for path in (tar, tar.with_suffix(".idx"))]
