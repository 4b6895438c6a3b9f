"""Write the untrimmed videos of a dataset beside its clips, tar by tar, with `prepare --untrimmed`."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from skelpipe.dataset.tar_shard import BLOCK, TAIL
from skelpipe.dataset.untrimmed import JOINT, LABEL, VideoEntry, array_head, tar_name
from skelpipe.errors import DatasetError, RawError, SkelpipeError
from skelpipe.files import HashingWriter, replacing, write_json
from skelpipe.manifest import SUBSETS, Manifest
from skelpipe.prepare.plan import Video
from skelpipe.preprocess import Policies, settle
from skelpipe.preprocess.scores import SCORE, scores_of
from skelpipe.raw.readers import RecordingReader
from skelpipe.raw.recording import Recording

__all__ = [
    "VideoJob",
    "VideoShard",
    "VideoTar",
    "as_array",
    "frame_labels",
    "gather_videos",
    "read_video_receipt",
    "video_shards",
    "write_videos",
]

VIDEOS_PER_TAR = 32  # of about 3 MB each
LARGEST_CLASS = int(np.iinfo(LABEL).max)


@dataclass(frozen=True)
class VideoShard:
    """The videos of one tar, sorted by id."""

    subset: str
    name: str
    videos: tuple[Video, ...]


@dataclass(frozen=True)
class VideoJob:
    """One tar of videos to write into the dataset folder `out`; its receipt goes to `receipts`.

    `shape` is that of a frame, [C,V,M]. Bodies are chosen and joints filled by the `policies`; no frame is.
    """

    manifest: Manifest
    shard: VideoShard
    out: Path
    receipts: Path
    shape: tuple[int, int, int]
    policies: Policies
    skip_bad: bool
    settings: str

    def __call__(self) -> None:
        _write(self)

    @property
    def receipt(self) -> Path:
        return self.receipts / f"untrimmed-{self.shard.subset}-{self.shard.name}.json"

    @property
    def tar(self) -> Path:
        return self.out / tar_name(self.shard.subset, self.shard.name)


def video_shards(videos: Sequence[Video]) -> list[VideoShard]:
    """Cut each subset's videos into tars."""
    shards = []
    for subset in SUBSETS:
        chosen = [video for video in videos if video.subset == subset]
        for number, start in enumerate(range(0, len(chosen), VIDEOS_PER_TAR)):
            shards.append(VideoShard(subset, f"{number:06d}", tuple(chosen[start : start + VIDEOS_PER_TAR])))
    return shards


def _write(job: VideoJob) -> None:
    """Write the tar, then its receipt.

    A damaged video is an error, or is skipped with `skip_bad`: the rows of its clips hold the reason.
    """
    written = write_videos(job.tar, _arrays(job))
    tar = {"bytes": written.bytes, "sha256": written.sha256, "videos": [asdict(v) for v in written.videos]}
    write_json(job.receipt, {"settings": job.settings, "tar": tar}, shared=True)


def _arrays(job: VideoJob) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    channels, _, bodies = job.shape
    reader = RecordingReader(job.manifest, bodies)
    policies = replace(job.policies, empty_frames="as-authors")
    for video in job.shard.videos:
        try:
            recording = reader.read(video.file)
            try:
                settled, _ = settle(recording, job.manifest.layout, policies, bodies)
            except RawError as error:
                raise RawError(f"{video.file.path}: {error}") from None
        except RawError as error:
            if not job.skip_bad:
                raise RawError(f"{error}; repair or move the file, or pass --on-error skip") from None
            continue
        yield video.id, as_array(settled, bodies, channels), frame_labels(video.rows, recording.frames)


def read_video_receipt(job: VideoJob) -> dict[str, Any] | None:
    """Return bytes, sha256 and videos of a tar written earlier, or None if it must be written (again)."""
    if not job.receipt.is_file():
        return None
    receipt = json.loads(job.receipt.read_bytes())
    tar: dict[str, Any] = receipt["tar"]
    whole = job.tar.is_file() and job.tar.stat().st_size == tar["bytes"]
    complete = job.skip_bad or len(tar["videos"]) == len(job.shard.videos)
    return tar if whole and complete and receipt["settings"] == job.settings else None


def gather_videos(jobs: Sequence[VideoJob], receipts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return the card's entry of all tars, by subset, from their receipts."""
    card: dict[str, Any] = {subset: {"videos": 0, "frames": 0, "shards": []} for subset in SUBSETS}
    for job, receipt in zip(jobs, receipts, strict=True):
        if receipt is None:
            raise SkelpipeError(f"{job.tar}: the file is missing; run prepare again")
        facts = card[job.shard.subset]
        facts["videos"] += len(receipt["videos"])
        facts["frames"] += sum(video["frames"] for video in receipt["videos"])
        facts["shards"].append({"name": job.shard.name, **receipt})
    return card


@dataclass(frozen=True)
class VideoTar:
    """The videos of a written tar, its size and the sha256 of its bytes."""

    videos: tuple[VideoEntry, ...]
    bytes: int
    sha256: str


class LabelRow(Protocol):
    """A row of a label file: class (1..n), first and last frame, 1-based and inclusive."""

    @property
    def action(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


def frame_labels(segments: Iterable[LabelRow], frames: int) -> np.ndarray:
    """Return the class of each frame, int16 [frames]; 0 for frames of no row.

    Rows are cut at the ends of the video. In a frame of two rows the later row in the file counts.
    """
    labels = np.zeros(frames, LABEL)
    for segment in segments:
        if not 0 < segment.action <= LARGEST_CLASS:
            raise DatasetError(f"class {segment.action} of a label row: classes go from 1 to {LARGEST_CLASS}")
        labels[max(segment.start - 1, 0) : max(segment.end, 0)] = segment.action
    return labels


def as_array(recording: Recording, bodies: int, channels: int = SCORE) -> np.ndarray:
    """Return a recording's joints, float32 [C,F,V,bodies], unchanged; zeros where a body is absent.

    Of 4 `channels` the last holds the scores. The n-th body that a frame lists fills slot n, as in profile
    `crosclr`; more than `bodies` are left out.
    """
    counts = recording.counts.astype(np.int64)
    frame = np.repeat(np.arange(recording.frames), counts)
    slot = np.arange(len(frame)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = slot < bodies
    joints = recording.xyz.shape[1]
    out = np.zeros((channels, recording.frames, joints, bodies), np.float32)
    out[:SCORE].transpose(1, 3, 2, 0)[frame[kept], slot[kept]] = recording.xyz[kept]
    if channels > SCORE:
        out[SCORE].transpose(0, 2, 1)[frame[kept], slot[kept]] = scores_of(recording)[kept]
    return out


def write_videos(path: Path, videos: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> VideoTar:
    """Write videos (id, joints float32 [C,F,V,M], labels [F]) as a tar, completely or not at all.

    One video is in memory at a time; the same videos give the same bytes on every machine. Raises DatasetError for
    a video without frames, arrays that do not fit together, or an id that does not fit into a tar header.
    """
    entries = []
    with replacing(path, shared=True) as file:
        writer = HashingWriter(file)
        for id_, joint, label in videos:
            _check_video(f"{path}: video {id_}", joint, label)
            joint_offset = _add(writer, f"{id_}.joint.npy", joint.astype(JOINT, order="C", copy=False))
            label_offset = _add(writer, f"{id_}.label.npy", label.astype(LABEL, order="C", copy=False))
            entries.append(VideoEntry(id_, len(label), joint_offset, label_offset))
        writer.write(TAIL)
    return VideoTar(tuple(entries), writer.size, writer.sha256)


def _check_video(where: str, joint: np.ndarray, label: np.ndarray) -> None:
    if joint.ndim != 4 or label.shape != joint.shape[1:2] or not len(label):
        raise DatasetError(f"{where}: joints {list(joint.shape)} and labels {list(label.shape)} do not fit")
    if label.min() < 0 or label.max() > LARGEST_CLASS:
        raise DatasetError(f"{where}: labels go from 0 to {LARGEST_CLASS}")


def _add(writer: HashingWriter, name: str, array: np.ndarray) -> int:
    """Write one array as a member of a tar; return the offset of its numbers."""
    writer.write(array_head(name, array.dtype, array.shape))
    offset = writer.size
    writer.write(array.data.cast("B"))
    writer.write(bytes(-writer.size % BLOCK))
    return offset
