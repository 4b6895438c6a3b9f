"""Folders with one file per recording, as on the Hugging Face hub: labels in metadata files or names of folders.

The hub's ImageFolder conventions: `metadata.csv` or `metadata.jsonl` with a column `file_name`, relative to its
folder, beside the files or above folders such as `train/` and `test/`; or `train/CLASS/NAME.npy`.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skelpipe.errors import RawError, UsageError
from skelpipe.files import read_at_most
from skelpipe.manifest import as_value
from skelpipe.raw.collections.contents import UNLABELLED, Entry, Request, subset_of_name
from skelpipe.raw.source import RawFile
from skelpipe.sample_ids import name_of_stem
from skelpipe.untrusted import described, shown

__all__ = ["Organised", "is_metadata", "organised", "whole_subset"]

METADATA = ("metadata.csv", "metadata.jsonl", "labels.csv", "labels.jsonl", "annotations.csv")
FILE_COLUMNS = ("file_name", "filename", "file", "path", "file_path", "filepath", "name", "id")
LABEL_COLUMNS = ("label", "labels", "class", "action", "activity", "category", "target", "exercise", "gesture")
SUBSET_COLUMNS = ("split", "subset", "partition", "set", "fold")
MOST_BYTES = 1 << 28  # of a metadata file
CSV_LIMIT = 1 << 20  # characters of a cell

Row = Mapping[str, str | int]


@dataclass(frozen=True)
class Organised:
    """The recordings of some folders: `classes` are the names, in label order, where the labels are names.

    `class_count` is the number of classes, the least one where labels are numbers.
    """

    entries: Sequence[Entry]
    classes: tuple[str, ...]
    class_count: int
    notes: tuple[str, ...] = ()


def is_metadata(file: RawFile) -> bool:
    return file.member is None and PurePosixPath(file.relative).name.lower() in METADATA


def organised(request: Request, is_recording: Callable[[RawFile], bool]) -> Organised:
    """Return the recordings of a request with subsets and labels, from metadata files or else from folders.

    Raises UsageError where neither says subset or label of a recording, RawError for a damaged metadata file.
    """
    files = [file for file in request.files if is_recording(file)]
    tables = [file for file in request.files if is_metadata(file)]
    rows = _rows(tables, files, request) if tables else {}
    notes: list[str] = []
    if rows:
        without = [file for file in files if file.path not in rows]
        if without:
            notes.append(f"{len(without):,} files are in no metadata file: left out, first {without[0].path}")
        files = [file for file in files if file.path in rows]
    names = _ids(files)
    found: list[tuple[str, str, str | int | None, RawFile]] = []
    for file, name in zip(files, names, strict=True):
        row = rows.get(file.path, {})
        label = row.get("label") if rows else _class_folder(file)
        subset = _subset(file, row, request)
        found.append((name, subset, label, file))
    labels = {label for _, _, label, _ in found if label is not None}
    if labels and all(isinstance(label, int) for label in labels):
        count = max(label for label in labels if isinstance(label, int)) + 1
        entries = [Entry(name, subset, _number(label), file) for name, subset, label, file in found]
        return Organised(entries, (), count, tuple(notes))
    classes = sorted(map(str, labels))
    number = {name: position for position, name in enumerate(classes)}
    entries = [
        Entry(name, subset, UNLABELLED if label is None else number[str(label)], file)
        for name, subset, label, file in found
    ]
    return Organised(entries, tuple(classes), len(classes), tuple(notes))


def _number(label: str | int | None) -> int:
    if isinstance(label, int) and label < 0:
        raise RawError(f"the label {label} is negative: labels count from 0")
    return label if isinstance(label, int) else UNLABELLED


def _subset(file: RawFile, row: Row, request: Request) -> str:
    said = str(row.get("subset", ""))
    subset = request.subset or subset_of_name(said)
    if subset is None and not said:
        folders = PurePosixPath(file.relative).parts[:-1]
        subset = next((found for part in folders if (found := whole_subset(part))), None)
    if subset is None:
        if said:
            what = f"its metadata says {described(said)}, which is neither train nor val nor test"
        else:
            what = "neither a folder nor metadata says whether it is for training or for testing"
        raise UsageError(f"{file.path}: {what}: say with --subset train or test what the files are")
    return subset


def whole_subset(part: str) -> str | None:
    """Return the subset that a folder is named after: `train`, but not `train_station`."""
    return subset_of_name(part) if part.isalpha() else None


def _class_folder(file: RawFile) -> str | None:
    """Return the folder that holds a file, if it is the name of a class and not of a subset."""
    parts = PurePosixPath(file.relative).parts
    return parts[-2] if len(parts) > 1 and whole_subset(parts[-2]) is None else None


def _ids(files: Sequence[RawFile]) -> list[str]:
    """Return the files' names without suffix, with their folders where two would be the same."""
    stems = [name_of_stem(PurePosixPath(file.relative).stem) for file in files]
    if len(set(stems)) == len(stems):
        return stems
    return ["-".join(PurePosixPath(file.relative).with_suffix("").parts) for file in files]


def _rows(tables: Sequence[RawFile], files: Sequence[RawFile], request: Request) -> dict[str, Row]:
    """Return the rows of metadata files by the path of the file that they are about."""
    by_place: dict[str, str] = {}
    stems: Counter[str] = Counter()
    for file in files:
        by_place[str(Path(file.path))] = file.path
        stems[Path(file.path).stem] += 1
    by_stem = {Path(file.path).stem: file.path for file in files if stems[Path(file.path).stem] == 1}
    rows: dict[str, Row] = {}
    named = False  # whether a column is called like labels, if empty
    for table in tables:
        for where, row in _table(table):
            name = _cell(row, FILE_COLUMNS)
            if name is None:
                raise UsageError(f"{where}: no column names the file; there are: {shown(', '.join(row))}")
            label = row.get(request.label_column) if request.label_column else _cell(row, LABEL_COLUMNS)
            if request.label_column and request.label_column not in row:
                raise UsageError(
                    f"{where}: there is no column {request.label_column!r}; there are: {shown(', '.join(row))}"
                )
            named = named or label is not None
            path = by_place.get(str(Path(table.path).parent / str(name)))
            path = path or by_stem.get(PurePosixPath(str(name)).name) or by_stem.get(PurePosixPath(str(name)).stem)
            if path is None:
                continue
            said: dict[str, str | int] = {}
            if label is not None and (text := str(label).strip()):
                said["label"] = as_value(text)
            if (subset := _cell(row, SUBSET_COLUMNS)) is not None:
                said["subset"] = str(subset)
            if rows.setdefault(path, said) != said:
                raise RawError(f"{where}: {shown(name)} stands there twice, with another label or subset")
    if not rows:
        raise RawError(f"{tables[0].path}: none of its rows is about one of the {len(files):,} files")
    if not any("label" in row for row in rows.values()) and not (request.label_column or named):
        columns = shown(", ".join(next(iter(_table(tables[0])))[1]))
        raise UsageError(
            f"{tables[0].path}: which column holds the label? Say --label COLUMN; there are: {columns}"
        )
    return rows


def _cell(row: Mapping[str, str | int], columns: Sequence[str]) -> str | int | None:
    lowered = {key.strip().lower(): value for key, value in row.items()}
    return next((lowered[column] for column in columns if column in lowered), None)


def _table(file: RawFile) -> Sequence[tuple[str, Mapping[str, str | int]]]:
    """Return the rows of a metadata file with the place of each, for messages."""
    if file.size > MOST_BYTES:
        raise RawError(f"{file.path}: {file.size:,} bytes are no table of file names")
    try:
        text = read_at_most(Path(file.path), MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise RawError(f"{file.path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RawError(f"{file.path}: byte {error.start + 1} is no UTF-8 text") from None
    if file.relative.lower().endswith(".jsonl"):
        return [_json_row(line, f"{file.path}:{n}") for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    csv.field_size_limit(CSV_LIMIT)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, strict=True)
    rows: list[tuple[str, Mapping[str, str | int]]] = []
    try:
        for row in reader:
            if None in row or None in row.values():
                columns = len(reader.fieldnames or ())
                raise RawError(f"{file.path}:{reader.line_num}: {columns} columns are expected, as in line 1")
            rows.append((f"{file.path}:{reader.line_num}", dict(row)))
    except csv.Error as error:
        raise RawError(f"{file.path}:{reader.line_num + 1}: is no row of a table: {shown(error)}") from None
    return rows


def _json_row(line: str, where: str) -> tuple[str, Mapping[str, str | int]]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RawError(f"{where}: is no JSON: {shown(error)}") from None
    if not isinstance(row, dict):
        raise RawError(f"{where}: an object with the keys of a row is expected")
    return where, {key: value for key, value in row.items() if isinstance(value, str | int)}
