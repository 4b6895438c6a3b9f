"""Untrimmed videos with a label a frame, for segmentation: raw joints in plain WebDataset tars.

A video is two members, `ID.joint.npy` (float32 [3,F,V,M], metres, neither centred nor resized, an absent body
zeros) and `ID.label.npy` (int16 [F], 0 = background, 1..n = class). Videos differ in length, so a `VideoEntry`
keeps where each one's arrays lie: `Videos` maps the tars into memory and decodes nothing.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

import numpy as np

from skelpipe.dataset.tar_shard import BLOCK, TAIL, ustar_headers
from skelpipe.errors import DatasetError
from skelpipe.files import HashingWriter, replacing
from skelpipe.raw.recording import Recording

__all__ = ["VideoEntry", "VideoTar", "Videos", "as_array", "frame_labels", "write_videos"]

JOINT, LABEL = np.dtype("<f4"), np.dtype("<i2")
LARGEST_CLASS = int(np.iinfo(LABEL).max)


@dataclass(frozen=True)
class VideoEntry:
    """One video of a tar: its id, its frames, and at which byte the numbers of either array start."""

    id: str
    frames: int
    joint_offset: int
    label_offset: int


@dataclass(frozen=True)
class VideoTar:
    """What a written tar holds, its size and the sha256 of its bytes."""

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
    """Return the class of each frame, int16 [frames]; 0 where no row says anything.

    Rows are clipped to the video. Where two overlap the later row wins, whatever frames they start at.
    """
    labels = np.zeros(frames, LABEL)
    for segment in segments:
        if not 0 < segment.action <= LARGEST_CLASS:
            raise DatasetError(f"class {segment.action} of a label row: classes go from 1 to {LARGEST_CLASS}")
        labels[max(segment.start - 1, 0) : max(segment.end, 0)] = segment.action
    return labels


def as_array(recording: Recording, bodies: int) -> np.ndarray:
    """Return a recording's joint positions, float32 [3,F,V,bodies], as they are; zeros where a body is absent.

    The n-th body that a frame lists fills slot n, as in profile `crosclr`; more than `bodies` are left out.
    """
    counts = recording.counts.astype(np.int64)
    frame = np.repeat(np.arange(recording.frames), counts)
    slot = np.arange(len(frame)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = slot < bodies
    joints = recording.xyz.shape[1]
    out = np.zeros((3, recording.frames, joints, bodies), np.float32)
    out.transpose(1, 3, 2, 0)[frame[kept], slot[kept]] = recording.xyz[kept]
    return out


def write_videos(path: Path, videos: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> VideoTar:
    """Write videos (id, joints float32 [3,F,V,M], labels [F]) as a tar, whole or not at all.

    One video is in memory at a time; the same videos give the same bytes anywhere. Raises DatasetError for a video
    without frames, one whose arrays do not fit together, or an id that no tar header takes.
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


def _check_video(place: str, joint: np.ndarray, label: np.ndarray) -> None:
    if joint.ndim != 4 or label.shape != joint.shape[1:2] or not len(label):
        raise DatasetError(f"{place}: joints {list(joint.shape)} and labels {list(label.shape)} do not fit")
    if label.min() < 0 or label.max() > LARGEST_CLASS:
        raise DatasetError(f"{place}: labels go from 0 to {LARGEST_CLASS}")


def _add(writer: HashingWriter, name: str, array: np.ndarray) -> int:
    """Write one array as a member of a tar; return the offset of its numbers."""
    writer.write(_head(name, array.dtype, array.shape))
    offset = writer.size
    writer.write(array.data.cast("B"))
    writer.write(bytes(-writer.size % BLOCK))
    return offset


def _head(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return what stands in front of an array's numbers: the ustar header and what `numpy.save` writes."""
    preamble = io.BytesIO()
    facts = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(preamble, facts)
    size = len(preamble.getvalue()) + dtype.itemsize * int(np.prod(shape))
    header = np.zeros((1, BLOCK), np.uint8)
    ustar_headers(header, [name], [size])
    return header.tobytes() + preamble.getvalue()


class Videos:
    """The videos of one subset, over all its tars, in the order of entries. Arrays are views of the files."""

    def __init__(
        self,
        paths: Sequence[PurePath],
        entries: Sequence[Sequence[VideoEntry]],
        joints: int,
        bodies: int,
        map_file: Callable[[PurePath], np.ndarray] | None = None,
    ) -> None:
        """Map `paths`; the n-th of `entries` lists the videos of the n-th tar.

        `map_file` returns a file's bytes, uint8, where they are not simply mapped from a local disk.

        Raises DatasetError for a tar that is missing, cut off, or not the one the entries are of.
        """
        self._joints, self._bodies = joints, bodies
        self._entries: list[tuple[PurePath, np.ndarray, VideoEntry]] = []
        for path, own in zip(paths, entries, strict=True):
            tar = (map_file or _map_file)(path)
            _check_size(path, tar, own)
            self._entries += [(path, tar, entry) for entry in own]
            for end in {len(self) - len(own), len(self) - 1} if own else ():
                self.joint(end)
                self.label(end)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def ids(self) -> list[str]:
        return [entry.id for _, _, entry in self._entries]

    @property
    def frames(self) -> np.ndarray:
        """The length of each video, int64 [N]."""
        return np.array([entry.frames for _, _, entry in self._entries], np.int64)

    def joint(self, video: int) -> np.ndarray:
        """Return a video's joint positions, float32 [3,F,V,M], read-only."""
        entry = self._entries[video][2]
        shape = (3, entry.frames, self._joints, self._bodies)
        return self._array(video, f"{entry.id}.joint.npy", entry.joint_offset, JOINT, shape)

    def label(self, video: int) -> np.ndarray:
        """Return the class of each frame of a video, int16 [F], 0 = background, read-only."""
        entry = self._entries[video][2]
        return self._array(video, f"{entry.id}.label.npy", entry.label_offset, LABEL, (entry.frames,))

    def _array(self, video: int, name: str, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of the tar, after a look at the header that stands in front of it."""
        path, tar, _ = self._entries[video]
        head = _head(name, dtype, shape)
        if offset < len(head) or bytes(tar[offset - len(head) : offset]) != head:
            raise DatasetError(
                f"{path}: at byte {offset} there is no {name} of shape {list(shape)}: "
                "the file is damaged or not this card's"
            )
        return tar[offset : offset + dtype.itemsize * int(np.prod(shape))].view(dtype).reshape(shape)


def _map_file(path: PurePath) -> np.ndarray:
    try:
        return np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    except (OSError, ValueError) as error:  # an empty file is a ValueError
        reason = error.strerror if isinstance(error, OSError) else "the file is empty"
        raise DatasetError(f"{path}: cannot be read: {reason}") from None


def _check_size(path: PurePath, tar: np.ndarray, entries: Sequence[VideoEntry]) -> None:
    ends = [entry.label_offset + LABEL.itemsize * entry.frames for entry in entries]
    expected = -(-max(ends, default=0) // BLOCK) * BLOCK + len(TAIL)
    if len(tar) != expected:
        raise DatasetError(f"{path}: {len(tar)} bytes, {expected} expected: the tar is cut off or not ours")
