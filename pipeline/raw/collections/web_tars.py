"""WebDataset shards that others wrote, on this machine: one recording per sample."""

import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from skelpipe import manifests
from skelpipe.errors import RawError, UsageError
from skelpipe.raw.axes import arranged, recorded
from skelpipe.raw.collections.contents import Contents, Entry, Request, array_axes, subset_of_name
from skelpipe.raw.form import Form
from skelpipe.raw.gzipped import inflated_archive, is_compressed
from skelpipe.raw.inflating import inflating
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile
from skelpipe.raw.tar_archive import BoundedTarInfo, TarMember, TarPieces, read_tar_member
from skelpipe.raw.web_shards import (
    ARRAYS,
    WebFields,
    array_in,
    is_web_shard,
    key_and_suffix,
    numbered,
    web_samples,
)
from skelpipe.skeleton import layout

__all__ = ["claims_web_tars", "holds_web_samples", "index_web_tars", "read_web_tars"]

FIRST = 64  # members that are looked at
FIRST_BYTES = 256 << 20  # in which these are, inflated


def holds_web_samples(path: Path) -> bool:
    """Say whether a file is a tar whose first members are samples: an array, and another member of its key."""
    suffixes: dict[str, set[str]] = {}
    try:
        with path.open("rb") as file:
            start: Any = TarPieces(_first(inflating(file, str(path))))
            with tarfile.open(fileobj=start, mode="r|", tarinfo=BoundedTarInfo) as tar:
                for info in islice(tar, FIRST):
                    if info.isreg() and (parts := key_and_suffix(info.name)) is not None:
                        suffixes.setdefault(parts[0], set()).add(parts[1])
    except (tarfile.TarError, OSError, EOFError, RawError):
        pass  # damage is reported when the file is read
    return any(
        len(found) > 1 and any(each.rpartition(".")[2] in ARRAYS for each in found) for found in suffixes.values()
    )


def _first(pieces: Iterable[bytes]) -> Iterator[bytes]:
    left = FIRST_BYTES
    for piece in pieces:
        yield piece
        left -= len(piece)
        if left <= 0:
            return


def claims_web_tars(request: Request) -> bool:
    """Whether there is a tar of samples; import lists other tars by their members."""
    return any(file.member is None and is_web_shard(file.path) for file in request.files)


def index_web_tars(request: Request) -> Contents:
    """Return the samples of all tars; the subset is in the name of the tar, or declared."""
    tars = [file.path for file in request.files if file.member is None and is_web_shard(file.path)]
    if not tars:
        raise UsageError("no tar is among the files")
    fields = WebFields(request.array, request.label_column or "")
    found: list[tuple[str, str, int | str | None, RawFile]] = []
    shape: tuple[int, ...] = ()
    seen: dict[str, str] = {}
    for path in tars:
        subset = request.subset or subset_of_name(PurePath(path).name)
        if subset is None:
            raise UsageError(f"{path}: its name says neither train nor val nor test: say --subset train or test")
        status = Path(path).stat()
        file = RawFile(PurePath(path).name, path, status.st_size, status.st_mtime_ns)
        plain = inflated_archive(Path(path)) if is_compressed(Path(path)) else Path(path)
        with open(plain, "rb") as opened:
            for number, sample in enumerate(web_samples(opened, path, fields)):
                if sample.key in seen:
                    raise RawError(f"{path}: {sample.key}: the key is also in {seen[sample.key]}")
                seen[sample.key] = path
                shape = shape or sample.array.shape
                found.append(
                    (
                        sample.key,
                        subset,
                        sample.label,
                        file._replace(
                            archive=str(plain),
                            member=TarMember(sample.offset, sample.size),
                            item=(f"{sample.key}.{sample.suffix}", number),
                        ),
                    )
                )
    if not found:
        raise RawError(f"{tars[0]}: holds no samples")
    axes = array_axes(shape, request, f"{tars[0]}: {found[0][0]}")
    sizes = dict(zip(axes, shape, strict=True))
    labels, classes, note = numbered([label for _, _, label, _ in found], tars[0])
    count = len(classes) or max(labels) + 1
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
        array=request.array,
        notes=(note,) if note else (),
    )


def read_web_tars(file: RawFile, form: Form) -> Recording:
    """Return the recording of one sample, whose array alone is read."""
    assert file.item is not None
    assert file.archive is not None
    at = f"{file.path}: {file.item[0]}"
    if file.archive == file.path and Path(file.path).stat().st_mtime_ns != file.changed:
        raise RawError(f"{file.path}: was replaced since it was listed")
    assert isinstance(file.member, TarMember)
    content = read_tar_member(file.archive, file.member, at)
    array = array_in(content, file.item[0], form.array.partition(":")[2], at)
    return recorded(arranged(array, form, at), form, at)
