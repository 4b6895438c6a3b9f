"""WebDataset shards that others wrote, on this machine: one recording per sample."""

import tarfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from lzma import LZMAError
from pathlib import Path, PurePath

import numpy as np

from skelpipe import manifests
from skelpipe.errors import RawError, UsageError
from skelpipe.raw.axes import arranged, recorded
from skelpipe.raw.collections.contents import UNLABELLED, Contents, Entry, Request, subset_of_name
from skelpipe.raw.form import Form
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile
from skelpipe.raw.web_shards import WebFields, is_web_shard, web_samples
from skelpipe.skeleton import layout

__all__ = ["claims_web_tars", "holds_web_samples", "index_web_tars", "read_web_tars"]

ARRAYS = ("npy", "npz", "json")
FIRST = 64  # members that are looked at
ONE_BODY = 3  # axes of the array of one body


def holds_web_samples(path: Path) -> bool:
    """Say whether a file is a tar whose first members are samples: an array, and another member of its key."""
    suffixes: dict[str, set[str]] = {}
    try:
        with tarfile.open(path, "r|*") as tar:
            for info in islice(tar, FIRST):
                key, _, suffix = PurePath(info.name).name.partition(".")
                if info.isreg() and key:
                    suffixes.setdefault(f"{PurePath(info.name).parent}/{key}", set()).add(suffix.lower())
    except (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError):
        pass  # damage is reported when the file is read
    return any(len(found) > 1 and any(each.endswith(ARRAYS) for each in found) for found in suffixes.values())


def claims_web_tars(request: Request) -> bool:
    """Whether there is a tar of samples; import lists other tars by their members."""
    return any(file.member is None and is_web_shard(file.path) for file in request.files)


def index_web_tars(request: Request) -> Contents:
    """Return the samples of all tars; the subset is in the name of the tar, or declared."""
    tars = [file.path for file in request.files if file.member is None and is_web_shard(file.path)]
    if not tars:
        raise UsageError("no tar is among the files")
    found: list[tuple[str, str, int | str | None, RawFile]] = []
    shape: tuple[int, ...] = ()
    seen: dict[str, str] = {}
    for path in tars:
        subset = request.subset or subset_of_name(PurePath(path).name)
        if subset is None:
            raise UsageError(f"{path}: its name says neither train nor val nor test: say --subset train or test")
        status = Path(path).stat()
        file = RawFile(PurePath(path).name, path, status.st_size, status.st_mtime_ns)
        with open(path, "rb") as opened:
            for number, sample in enumerate(
                web_samples(opened, path, WebFields(label=request.label_column or ""))
            ):
                if sample.key in seen:
                    raise RawError(f"{path}: {sample.key}: the key is also in {seen[sample.key]}")
                seen[sample.key] = path
                shape = shape or sample.array.shape
                found.append((sample.key, subset, sample.label, file._replace(item=(sample.key, number))))
    if not found:
        raise RawError(f"{tars[0]}: holds no samples")
    axes = [axis for axis in request.axes if axis != "N"] or list("TVC" if len(shape) == ONE_BODY else "TMVC")
    if len(shape) != len(axes):
        raise UsageError(
            f"{tars[0]}: {found[0][0]}: the shape {list(shape)} is not {','.join(axes)}: declare the order, such"
            " as --axes M,T,V,C"
        )
    sizes = dict(zip(axes, shape, strict=True))
    labels, classes, count = _numbered([label for _, _, label, _ in found])
    flat = sizes["C"] == 2 or bool(request.channels and "z" not in request.channels)
    return Contents(
        reader="webdataset",
        entries=[Entry(key, subset, n, file) for (key, subset, _, file), n in zip(found, labels, strict=True)],
        joints=sizes["V"],
        bodies=sizes.get("M", 1),
        layouts=tuple(name for name in manifests.names("layouts") if len(layout(name)) == sizes["V"]),
        class_count=count,
        all_classes=bool(classes),
        classes=classes,
        channels=request.channels,
        axes=request.axes,
        units="pixels" if flat else "metres",
        padded=False,
    )


def read_web_tars(file: RawFile, form: Form) -> Recording:
    """Return the recording of one sample. The last tar stays in memory: its samples are asked for in turn."""
    assert file.item is not None
    key = file.item[0]
    at = f"{file.path}: {key}"
    return recorded(arranged(_arrays(file.path, file.changed, form.array)[key], form, at), form, at)


@lru_cache(maxsize=1)
def _arrays(path: str, changed: int, array: str) -> Mapping[str, np.ndarray]:
    with open(path, "rb") as opened:
        return {sample.key: sample.array for sample in web_samples(opened, path, WebFields(array, "none"))}


def _numbered(labels: list[int | str | None]) -> tuple[list[int], tuple[str, ...], int]:
    """Return labels as numbers, the names of the classes where labels are names, and the number of classes."""
    known = {label for label in labels if label is not None}
    if all(isinstance(label, int) for label in known):
        numbers = [UNLABELLED if label is None else int(label) for label in labels]
        if known and min(int(label) for label in known) < 0:
            raise RawError(f"a label is {min(int(label) for label in known)}: labels count from 0")
        return numbers, (), max(numbers, default=-1) + 1
    names = tuple(sorted(map(str, known)))
    place = {name: n for n, name in enumerate(names)}
    return [UNLABELLED if label is None else place[str(label)] for label in labels], names, len(names)
