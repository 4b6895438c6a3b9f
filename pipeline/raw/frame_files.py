"""Recordings of which each frame is a file of its own: which files belong together, and in which order."""

import re
from collections.abc import Iterable, Sequence

from skelpipe.errors import RawError
from skelpipe.raw.source import RawFile

__all__ = ["joined"]

NUMBERED = re.compile(r"(?P<recording>.*?)[ _.-]?(?P<frame>[0-9]{1,18})")


def joined(files: Iterable[RawFile], suffixes: Sequence[str]) -> list[RawFile]:
    """Return the files with those of one recording joined as one file, whose `parts` are the frames in order.

    A file of a frame is `RECORDING_NUMBER` and one of the suffixes; files of a folder with the same beginning are
    one recording, which is called `RECORDING` and the suffix. Where the name is a number only, the folder gives
    the recording's name. Frames are ordered by number, however many digits they have. Raises RawError for a frame
    that is there twice.
    """
    others: list[RawFile] = []
    groups: dict[tuple[str, str, str, str], dict[int, RawFile]] = {}
    for file in files:
        folder, _, name = file.relative.rpartition("/")
        suffix = next((suffix for suffix in suffixes if name.endswith(suffix)), None)
        match = NUMBERED.fullmatch(name.removesuffix(suffix)) if suffix else None
        if suffix is None or match is None:
            others.append(file)
            continue
        place = file.path.removesuffix(name)
        frames = groups.setdefault((place, folder, match["recording"], suffix), {})
        number = int(match["frame"])
        if number in frames:
            raise RawError(f"{file.path}: frame {number} is found twice, first as {frames[number].path}")
        frames[number] = file
    return [*others, *(_join(*key, frames) for key, frames in groups.items())]


def _join(place: str, folder: str, recording: str, suffix: str, frames: dict[int, RawFile]) -> RawFile:
    numbers = sorted(frames)
    parts = tuple((number, frames[number]) for number in numbers)
    within, _, last = folder.rpartition("/")
    if recording:
        relative, path = f"{folder}/{recording}", f"{place}{recording}_*{suffix}"
    else:
        relative, path = f"{within}/{last or place.rstrip('/').rpartition('/')[2]}", f"{place}*{suffix}"
    return RawFile(
        relative.lstrip("/") + suffix,
        path,
        sum(part.size for _, part in parts),
        max(part.changed for _, part in parts),
        parts=parts,
    )
