"""What somebody asks to be prepared, by the names and defaults of `skelpipe prepare`; and `skelpipe.prepare`."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.front.arguments import given, path_text, whole_number
from skelpipe.manifest import Manifest
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare.run import FORMATS, Options, prepare
from skelpipe.prepare.split_file import read_split_file
from skelpipe.storage import local_folder, open_filesystem
from skelpipe.storage.filesystem import Filesystem

__all__ = ["Request", "prepare_dataset", "requested"]

# The values that options of the command may have; None of the policies is what the dataset says.
CHOICES: dict[str, tuple[str | None, ...]] = {
    "profile": ("crosclr", "ctrgcn"),
    "second_body": ("zeros", "copy"),
    "dtype": ("float32", "float16"),
    "format": tuple(FORMATS),
    "on_error": ("fail", "skip"),
    "engine": ("processes", "dask"),
    "body_choice": (None, "motion", "first"),
    "empty_frames": (None, "as-authors", "dropped", "held", "interpolated"),
    "missing_joints": (None, "refused", "held", "interpolated", "parent"),
}
LEAST = {"frames": 2, "bodies": 1, "shard_size": 1, "workers": 1}


@dataclass(frozen=True)
class Request:
    """A dataset to be prepared: of what, from which folders, where to, and how."""

    manifest: Manifest
    folders: list[Path]
    target: Filesystem
    options: Options
    work: Path | None


def requested(
    name: str,
    split: str,
    *,
    split_file: str | None = None,
    raw: Sequence[str] = (),
    out: str | None = None,
    work: str | None = None,
    engine: str = "processes",
    scheduler: str | None = None,
    bodies: int | None = None,
    **options: Any,
) -> Request:
    """Return what these options of `skelpipe prepare` ask for; UsageError where they do not fit together."""
    if (engine == "dask") != (scheduler is not None):
        raise UsageError("--engine dask and --scheduler ADDRESS go together")
    manifest = load_manifest(name)
    if split_file:
        manifest = manifest.with_split_file(split, *read_split_file(split_file))
    manifest.split(split)
    target = open_filesystem(out or f"data/{manifest.name}-{split}")
    if work is not None and target.is_local:
        raise UsageError("--work is for --out URL; --out names a folder, into which shards are written directly")
    folders = [local_folder(path, "--raw") for path in raw or (f"raw/{manifest.name}",)]
    if target.is_local and target.local_path.exists() and not target.local_path.is_dir():
        raise UsageError(f"--out {target}: is a file")
    made = Options(split, bodies=bodies or manifest.bodies, **options)
    return Request(manifest, folders, target, made, None if work is None else local_folder(work, "--work"))


def prepare_dataset(
    dataset: str | Path,
    *,
    split: str | None = None,
    split_file: str | Path | None = None,
    raw: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    work: str | Path | None = None,
    frames: int = 64,
    bodies: int | None = None,
    body_choice: str | None = None,
    empty_frames: str | None = None,
    missing_joints: str | None = None,
    shard_size: int = 1024,
    profile: str = "crosclr",
    second_body: str = "zeros",
    dtype: str = "float32",
    format: str = "shards",
    untrimmed: bool = False,
    on_error: str = "fail",
    overwrite: bool = False,
    check_raw: bool = False,
    engine: str = "processes",
    scheduler: str | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> Dataset:
    """Prepare a dataset from raw recordings, as `skelpipe prepare` does, and return it, opened.

    `dataset` is a name, such as ntu60, or the YAML file of one's own; `split` is needed unless it has only one.
    The others are the command's options, with its defaults: `raw` is raw/DATASET, `out` data/DATASET-SPLIT,
    `workers` one per core. A dataset that is complete is opened; an unfinished one is continued. What looks wrong
    about the bodies is a Python warning. Raises what the command prints: UsageError for wrong options, RawError
    for a damaged recording unless `on_error` is "skip", SkelpipeError where nothing can be read or written.
    """
    values = dict(locals())
    for key, possible in CHOICES.items():
        if values[key] not in possible:
            known = ", ".join(map(str, possible))
            raise UsageError(f"{key} is {given(values[key])}; it can be: {known}")
    for key, least in LEAST.items():
        if values[key] is not None:
            values[key] = whole_number(values[key], key, least)
    name = path_text(dataset, "the name of a dataset, or its YAML file,")
    split_file, out, work = (
        None if value is None else path_text(value, f"{key}, a path,")
        for key, value in (("split_file", split_file), ("out", out), ("work", work))
    )
    if split is None:
        split = _only_split(name)
    if not isinstance(raw, str | os.PathLike | Sequence):
        raise UsageError(f"raw is a folder or an archive, or a list of them, not {given(raw)}")
    raw = (raw,) if isinstance(raw, str | os.PathLike) else raw
    request = requested(
        name,
        split,
        raw=[path_text(each, "raw, a folder or an archive,") for each in raw],
        engine=engine,
        scheduler=scheduler,
        split_file=split_file,
        out=out,
        work=work,
        **{each.name: values[each.name] for each in fields(Options) if each.name != "split"},
    )
    outcome = prepare(
        request.manifest,
        request.folders,
        request.target,
        request.options,
        formats=FORMATS[format],
        workers=values["workers"] or os.cpu_count() or 1,
        scheduler=scheduler,
        skip_bad=on_error == "skip",
        overwrite=overwrite,
        check_raw=check_raw,
        work=request.work,
        quiet=quiet,
    )
    if outcome.implausible:
        what = f"{request.target}: bodies do not look like bodies: {'; '.join(outcome.implausible)}"
        warnings.warn(what, stacklevel=3)
    target = request.target
    return Dataset.open(target.local_path if target.is_local else out or "")


def _only_split(name: str) -> str:
    manifest = load_manifest(name)
    if len(manifest.splits) > 1:
        raise UsageError(f"split is one of {', '.join(manifest.splits)}: {manifest.name} has several")
    return next(iter(manifest.splits))
