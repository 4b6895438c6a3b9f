"""Untrimmed videos with one label per frame, for segmentation: raw joints in plain WebDataset tars.

A video is two members, `ID.joint.npy` (float32 [C,F,V,M], metres, neither centred nor resized, zeros for an absent
body) and `ID.label.npy` (int16 [F], 0 = background, 1..n = class). Videos differ in length, so the card has the
offsets of each one's arrays (`VideoEntry`). `Videos` maps the tars into memory and decodes nothing.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from skelpipe import mapped_files
from skelpipe.dataset.tar_shard import BLOCK, TAIL, ustar_headers
from skelpipe.errors import DatasetError

__all__ = ["JOINT", "LABEL", "VideoEntry", "Videos", "array_head", "open_videos", "tar_name"]

JOINT, LABEL = np.dtype("<f4"), np.dtype("<i2")


@dataclass(frozen=True)
class VideoEntry:
    """One video of a tar: its id, its number of frames, and the byte offset of the numbers of each array."""

    id: str
    frames: int
    joint_offset: int
    label_offset: int


def tar_name(subset: str, name: str) -> str:
    """Return the name of a tar of videos within the dataset."""
    return f"untrimmed/{subset}/{name}.tar"


def array_head(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return the bytes before an array's numbers: the ustar header and what `numpy.save` writes."""
    preamble = io.BytesIO()
    facts = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(preamble, facts)
    size = len(preamble.getvalue()) + dtype.itemsize * int(np.prod(shape))
    header = np.zeros((1, BLOCK), np.uint8)
    ustar_headers(header, [name], [size])
    return header.tobytes() + preamble.getvalue()


class Videos:
    """The videos of all tars of one subset, in the order of their entries, as views of the mapped files."""

    def __init__(
        self,
        paths: Sequence[PurePath],
        entries: Sequence[Sequence[VideoEntry]],
        joints: int,
        bodies: int,
        map_file: Callable[[PurePath], np.ndarray] | None = None,
        channels: int = 3,
    ) -> None:
        """Map the tars `paths`; the n-th of `entries` lists the videos of the n-th tar.

        `map_file` returns the bytes of a file, uint8; by default local files are mapped. Raises DatasetError for a
        tar that is missing, cut off, or of other entries.
        """
        self._source = paths, entries, joints, bodies, map_file, channels
        map_tar = map_file or mapped_files.map_file
        self._joints, self._bodies, self._channels = joints, bodies, channels
        self._entries: list[tuple[PurePath, np.ndarray, VideoEntry]] = []
        for path, own in zip(paths, entries, strict=True):
            tar = map_tar(path)
            _check_size(path, tar, own)
            self._entries += [(path, tar, entry) for entry in own]
            for end in {len(self) - len(own), len(self) - 1} if own else ():
                self.joint(end)
                self.label(end)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process map the same tars."""
        return Videos, self._source

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
        """Return a video's joints, float32 [C,F,V,M], read-only: positions and, with 4 channels, scores."""
        entry = self._entries[video][2]
        shape = (self._channels, entry.frames, self._joints, self._bodies)
        return self._array(video, f"{entry.id}.joint.npy", entry.joint_offset, JOINT, shape)

    def label(self, video: int) -> np.ndarray:
        """Return the class of each frame of a video, int16 [F], 0 = background, read-only."""
        entry = self._entries[video][2]
        return self._array(video, f"{entry.id}.label.npy", entry.label_offset, LABEL, (entry.frames,))

    def _array(self, video: int, name: str, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of the tar, after checking the header before it."""
        path, tar, _ = self._entries[video]
        head = array_head(name, dtype, shape)
        if offset < len(head) or bytes(tar[offset - len(head) : offset]) != head:
            raise DatasetError(
                f"{path}: at byte {offset} there is no {name} of shape {list(shape)}: "
                "the file is damaged or not the card's"
            )
        return tar[offset : offset + dtype.itemsize * int(np.prod(shape))].view(dtype).reshape(shape)


def open_videos(
    folder: PurePath,
    card: Mapping[str, Any],
    subset: str,
    joints: int,
    bodies: int,
    map_file: Callable[[PurePath], np.ndarray] | None = None,
    channels: int = 3,
) -> Videos:
    """Return the videos of one subset, whose entry in the card is `card`; `map_file` as for `Videos`."""
    paths = [folder / tar_name(subset, shard["name"]) for shard in card["shards"]]
    entries = [[VideoEntry(**video) for video in shard["videos"]] for shard in card["shards"]]
    return Videos(paths, entries, joints, bodies, map_file, channels)


def _check_size(path: PurePath, tar: np.ndarray, entries: Sequence[VideoEntry]) -> None:
    ends = [entry.label_offset + LABEL.itemsize * entry.frames for entry in entries]
    expected = -(-max(ends, default=0) // BLOCK) * BLOCK + len(TAIL)
    if len(tar) != expected:
        raise DatasetError(
            f"{path}: {len(tar)} bytes, {expected} expected: the tar is cut off or of another dataset"
        )
