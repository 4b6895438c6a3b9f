"""Folders of .npy files, one per recording, as datasets on the Hugging Face hub keep poses."""

import re
from pathlib import PurePosixPath

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.raw.collections.contents import Contents, Request, array_axes
from skelpipe.raw.collections.folders import is_metadata, organised
from skelpipe.raw.mapped_arrays import is_npy, map_npy
from skelpipe.raw.source import RawFile
from skelpipe.skeleton import layout

__all__ = ["claims_hub", "index_hub"]

# What the arrays of a whole dataset are called: the other formats'.
OTHERS = re.compile(r".*(data(_joints?|_bones?|_motion)*|_joint|_position|_motion|_bone|labels?)", re.IGNORECASE)
XYZ = 3


def claims_hub(request: Request) -> bool:
    """Whether there are several .npy files that are not named like arrays of whole datasets."""
    return any(map(_is_recording, request.files)) and (
        any(map(is_metadata, request.files)) or len(list(filter(_is_recording, request.files))) > 1
    )


def index_hub(request: Request) -> Contents:
    found = organised(request, _is_recording)
    if not found.entries:
        raise UsageError(f"{request.files[0].path}: no .npy file with a recording is found")
    first = found.entries[0].file
    shape = map_npy(first.path).shape
    axes = array_axes(shape, request, first.path)
    sizes = dict(zip(axes, shape, strict=True))
    joints = sizes["V"]
    if sizes["C"] != len(request.channels or range(min(sizes["C"], XYZ))):
        raise UsageError(
            f"{first.path}: a joint has {sizes['C']} numbers, shape {list(shape)} as {','.join(axes)}: say what"
            " they are, such as --channels x,y,z,score, or the order of the axes with --axes"
        )
    channels = request.channels
    flat = sizes["C"] == 2 or bool(channels and "z" not in channels)
    return Contents(
        reader="npy",
        entries=found.entries,
        joints=joints,
        bodies=sizes.get("M", 1),
        layouts=tuple(name for name in manifests.names("layouts") if len(layout(name)) == joints),
        class_count=found.class_count,
        all_classes=bool(found.classes),
        classes=found.classes,
        channels=channels,
        axes=request.axes,
        units="pixels" if flat else "metres",
        notes=found.notes,
    )


def _is_recording(file: RawFile) -> bool:
    if file.member is not None or not file.relative.lower().endswith(".npy"):
        return False
    stem = PurePosixPath(file.relative).stem
    return OTHERS.fullmatch(stem) is None and is_npy(file.path)
