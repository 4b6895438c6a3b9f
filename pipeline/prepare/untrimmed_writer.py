"""Writes the untrimmed videos of a dataset beside its clips, tar by tar, with `prepare --untrimmed`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from skelpipe.dataset.untrimmed import VideoEntry, Videos, as_array, frame_labels, write_videos
from skelpipe.errors import RawError, SkelpipeError
from skelpipe.files import write_json
from skelpipe.manifest import SUBSETS, Manifest
from skelpipe.prepare.clips import RecordingReader
from skelpipe.prepare.plan import Video

__all__ = ["VideoJob", "VideoShard", "gather_videos", "open_videos", "read_video_receipt", "video_shards"]

VIDEOS_A_TAR = 32  # of some 3 MB each


@dataclass(frozen=True)
class VideoShard:
    """The videos of one tar, sorted by id."""

    subset: str
    name: str
    videos: tuple[Video, ...]


@dataclass(frozen=True)
class VideoJob:
    """One tar of videos to write into the dataset folder `out`; its receipt goes to `receipts`."""

    manifest: Manifest
    shard: VideoShard
    out: Path
    receipts: Path
    bodies: int
    skip_bad: bool
    settings: str

    def __call__(self) -> None:
        _write(self)

    @property
    def receipt(self) -> Path:
        return self.receipts / f"untrimmed-{self.shard.subset}-{self.shard.name}.json"

    @property
    def tar(self) -> Path:
        return self.out / _name(self.shard.subset, self.shard.name)


def video_shards(videos: Sequence[Video]) -> list[VideoShard]:
    """Cut each subset's videos into tars."""
    shards = []
    for subset in SUBSETS:
        chosen = [video for video in videos if video.subset == subset]
        for number, start in enumerate(range(0, len(chosen), VIDEOS_A_TAR)):
            shards.append(VideoShard(subset, f"{number:06d}", tuple(chosen[start : start + VIDEOS_A_TAR])))
    return shards


def _name(subset: str, name: str) -> str:
    return f"untrimmed/{subset}/{name}.tar"


def _write(job: VideoJob) -> None:
    """Write the tar, then its receipt. A damaged video is an error, or left out when bad ones are to be skipped:
    its clips' rows tell the reason.
    """
    written = write_videos(job.tar, _arrays(job))
    tar = {"bytes": written.bytes, "sha256": written.sha256, "videos": [asdict(v) for v in written.videos]}
    write_json(job.receipt, {"settings": job.settings, "tar": tar}, shared=True)


def _arrays(job: VideoJob) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    reader = RecordingReader(job.manifest)
    for video in job.shard.videos:
        try:
            recording = reader.read(video.file)
        except RawError as error:
            if not job.skip_bad:
                raise RawError(f"{error}; repair or move the file, or pass --on-error skip") from None
            continue
        yield video.id, as_array(recording, job.bodies), frame_labels(video.rows, recording.frames)


def read_video_receipt(job: VideoJob) -> dict[str, Any] | None:
    """Return bytes, sha256 and videos of a tar written earlier, or None where it must be written (again)."""
    if not job.receipt.is_file():
        return None
    receipt = json.loads(job.receipt.read_bytes())
    tar: dict[str, Any] = receipt["tar"]
    whole = job.tar.is_file() and job.tar.stat().st_size == tar["bytes"]
    complete = job.skip_bad or len(tar["videos"]) == len(job.shard.videos)
    return tar if whole and complete and receipt["settings"] == job.settings else None


def gather_videos(jobs: Sequence[VideoJob], receipts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return the card's entry of all tars, a subset, from the receipt of each."""
    card: dict[str, Any] = {subset: {"videos": 0, "frames": 0, "shards": []} for subset in SUBSETS}
    for job, receipt in zip(jobs, receipts, strict=True):
        if receipt is None:
            raise SkelpipeError(f"{job.tar}: the file is gone; run prepare again")
        facts = card[job.shard.subset]
        facts["videos"] += len(receipt["videos"])
        facts["frames"] += sum(video["frames"] for video in receipt["videos"])
        facts["shards"].append({"name": job.shard.name, **receipt})
    return card


def open_videos(
    folder: PurePath,
    card: Mapping[str, Any],
    subset: str,
    joints: int,
    bodies: int,
    map_file: Callable[[PurePath], np.ndarray] | None = None,
) -> Videos:
    """Return one subset's videos; `card` is its entry in the card, `map_file` as for `Videos`."""
    paths = [folder / _name(subset, shard["name"]) for shard in card["shards"]]
    entries = [[VideoEntry(**video) for video in shard["videos"]] for shard in card["shards"]]
    return Videos(paths, entries, joints, bodies, map_file)
