"""The formats that clips are exported to, by name, and the export itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.export.clips import Clips
from skelpipe.export.ctrgcn import ctrgcn_names, write_ctrgcn
from skelpipe.export.npy import npy_names, write_npy
from skelpipe.export.pyskl import pyskl_names, write_pyskl
from skelpipe.export.stgcn import stgcn_names, write_stgcn
from skelpipe.export.table import csv_names, write_csv
from skelpipe.export.target import filled_folder
from skelpipe.ownership import owned
from skelpipe.views import VIEWS

__all__ = ["EXPORT_FORMATS", "ExportFormat", "Exported", "Wishes", "export"]

PADDED: Final = 300  # frames, in the files that the authors of CTR-GCN, st-gcn and 2s-AGCN make


@dataclass(frozen=True)
class Wishes:
    """What a user may choose: None leaves it to the format.

    `pad_to` is the least number of frames, `dtype` the type of the numbers, `zipped` compresses the table.
    """

    pad_to: int | None = None
    dtype: str | None = None
    zipped: bool = False


@dataclass(frozen=True)
class ExportFormat:
    """A format: which files and folders it writes and how, and which wishes have a meaning for it."""

    title: str
    names: Callable[[Clips, Wishes], list[str]]
    write: Callable[[Clips, Path, Wishes], list[str]]
    wishes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exported:
    """What an export wrote: the files, their size in bytes, and lines that say what is in them."""

    files: tuple[Path, ...]
    bytes: int
    lines: tuple[str, ...]


def _frames(wishes: Wishes) -> int:
    return PADDED if wishes.pad_to is None else wishes.pad_to


def _dtype(wishes: Wishes) -> str:
    return wishes.dtype or "float32"


EXPORT_FORMATS: Final[Mapping[str, ExportFormat]] = MappingProxyType(
    {
        "ctrgcn-npz": ExportFormat(
            "CTR-GCN's x_train and y_train in one .npz",
            lambda clips, wishes: ctrgcn_names(clips),
            lambda clips, folder, wishes: write_ctrgcn(clips, folder, _frames(wishes)),
            ("pad_to",),
        ),
        "stgcn-npy": ExportFormat(
            "st-gcn's train_data.npy and train_label.pkl",
            lambda clips, wishes: stgcn_names(clips),
            lambda clips, folder, wishes: write_stgcn(clips, folder, _frames(wishes)),
            ("pad_to",),
        ),
        "pyskl-pkl": ExportFormat(
            "a pickle of pyskl or MMAction2",
            lambda clips, wishes: pyskl_names(clips),
            lambda clips, folder, wishes: write_pyskl(clips, folder, _dtype(wishes)),
            ("dtype",),
        ),
        "npy": ExportFormat(
            "one .npy per clip with metadata.csv",
            lambda clips, wishes: npy_names(clips),
            lambda clips, folder, wishes: write_npy(clips, folder, _dtype(wishes)),
            ("dtype",),
        ),
        "csv": ExportFormat(
            "one long table for pandas or R",
            lambda clips, wishes: csv_names(clips, zipped=wishes.zipped),
            lambda clips, folder, wishes: write_csv(clips, folder, zipped=wishes.zipped),
            ("zipped",),
        ),
    }
)
CLASSES = "classes.txt"  # a name per line, in the order of labels: `skelpipe import` takes it as --classes
OPTIONS = {"pad_to": "--pad-to", "dtype": "--dtype", "zipped": "--gzip"}


def export(
    dataset: Dataset,
    format_name: str,
    out: Path,
    *,
    view: str = "joint",
    scores: bool = True,
    wishes: Wishes | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Exported:
    """Write the clips of a dataset into `out`, a folder, in one of EXPORT_FORMATS.

    The files appear when all are complete. Raises UsageError for what a format cannot hold or has no use for, and
    where files are there already, unless `overwrite`.
    """
    wishes = wishes or Wishes()
    chosen = EXPORT_FORMATS[format_name]
    if view not in VIEWS or view not in dataset.views:
        raise UsageError(f"{dataset.path}: has no view {view!r}; it has: {', '.join(dataset.views)}")
    for name, option in OPTIONS.items():
        if getattr(wishes, name) not in (None, False) and name not in chosen.wishes:
            fitting = [each for each, format_ in EXPORT_FORMATS.items() if name in format_.wishes]
            raise UsageError(f"{option} is for --to {' and '.join(fitting)}; {format_name} has no use for it")
    clips = Clips(dataset, view, scores, quiet)
    names = chosen.names(clips, wishes)
    if CLASSES not in names:
        names.append(CLASSES)
    with owned(out.absolute(), "export", file=True), filled_folder(out, names, overwrite=overwrite) as folder:
        lines = chosen.write(clips, folder, wishes)
        (folder / CLASSES).write_text("".join(f"{name}\n" for name in dataset.classes), "utf-8", newline="\n")
    files = [path for name in names for path in sorted(_files(out / name))]
    return Exported(tuple(files), sum(path.stat().st_size for path in files), tuple(lines))


def _files(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
