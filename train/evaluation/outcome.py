"""The outcome of an evaluation as files: scores and features with sample ids, figures per class, result.json.

Every protocol writes the same folder, `runs/PROTOCOL-DATASET-VIEW-NAME`; fusion and reports read nothing else.
"""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from skelpipe.dataset.parquet import read_parquet
from skelpipe.door.refusals import why
from skelpipe.errors import SkelpipeError
from skelpipe.files import replacing, write_json
from skelpipe.ownership import check_owned, hold
from skelpipe.train.evaluation.confusion_plot import draw_confusion
from skelpipe.train.evaluation.metrics import confusion, per_class, predictions
from skelpipe.train.evaluation.outcome_folder import (
    CLASSES,
    CONFUSION,
    EMBEDDING,
    FEATURES,
    LOG,
    OUTCOME_FILES,
    PICTURE,
    REPORT,
    RESULT,
    SCORES,
    SETTINGS,
    SUBSET_FEATURES,
    TIMELINES,
    removable,
)
from skelpipe.train.running.run_loggers import LOGGER_FOLDERS
from skelpipe.untrusted import shown

if TYPE_CHECKING:
    from skelpipe.train.evaluation.embedding import Embedded

__all__ = [
    "ABOUT",
    "CLASSES",
    "CONFUSION",
    "EMBEDDING",
    "FEATURES",
    "LOG",
    "OUTCOME_FILES",
    "PICTURE",
    "REPORT",
    "RESULT",
    "SCORES",
    "SETTINGS",
    "SUBSET_FEATURES",
    "TIMELINES",
    "Scores",
    "metadata_of",
    "open_folder",
    "read_features",
    "read_scores",
    "write_embeddings",
    "write_features",
    "write_outcome",
    "write_scores",
    "write_subset_features",
]

ABOUT = ("protocol", "dataset", "digest", "split", "view", "what", "classes")  # metadata of all scores


@dataclass(frozen=True)
class Scores:
    """The scores of a subset: `ids` of length N, `labels` int64[N], `scores` float32[N,K] (logits or votes).

    `about` says where they come from: protocol, dataset (`ntu60-xsub`), digest, split (the subset), view, what (a
    line for people) and classes (the K names as a JSON list); more keys are kept.
    """

    ids: list[str]
    labels: np.ndarray
    scores: np.ndarray
    about: dict[str, str]

    @property
    def predicted(self) -> np.ndarray:
        """The class with the highest score of each clip, int64[N]; ties go to the lowest class."""
        return predictions(self.scores)

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return [str(name) for name in json.loads(self.about["classes"])]


def open_folder(folder: Path, *, overwrite: bool, also: Sequence[str] = ()) -> None:
    """Empty or create the folder of an evaluation before the work starts; UsageError where files would be lost.

    A finished evaluation (it has `result.json`) is removed with `overwrite` only, the rest of an interrupted one
    always, any other file never. `also` names further files that a protocol writes. UsageError also where another
    process writes there: a command that is running holds the folder until it ends (`skelpipe.ownership.hold`).
    """
    try:
        removable(folder, overwrite=overwrite, also=also)
        hold(folder)
        for name in removable(folder, overwrite=overwrite, also=also):  # what is there by now
            shutil.rmtree(folder / name) if name in LOGGER_FOLDERS else (folder / name).unlink()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SkelpipeError(f"{folder}: cannot be made ready: {why(error)}") from None


def write_outcome(
    folder: Path,
    scores: Scores,
    result: Mapping[str, Any],
    *,
    log: Iterable[Mapping[str, Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write an evaluation's folder: scores, per-class accuracy, confusion matrix and result.

    `log` has one record per epoch, `settings` are the values that the evaluation used; both are left out where
    None. classes.csv numbers classes from 0, as `label` in scores.parquet; the accuracy of a class without clips
    stays empty. The picture needs matplotlib (skelpipe[plot]) and is left out without it. Of several ranks only
    one may call this.
    """
    check_owned(folder)
    names = scores.classes
    matrix = confusion(scores.labels, scores.predicted, len(names))
    write_scores(folder / SCORES, scores)
    _write_csv(folder / CLASSES, ("class", "name", "clips", "right", "accuracy"), _class_rows(matrix, names))
    header = ["class", *map(str, range(len(names)))]
    _write_csv(folder / CONFUSION, header, ([row, *counts] for row, counts in enumerate(matrix.tolist())))
    draw_confusion(matrix, names, _title(scores, result), folder / PICTURE)
    if log is not None:
        _write_text(folder / LOG, "".join(json.dumps(record, allow_nan=False) + "\n" for record in log))
    if settings is not None:
        _write_text(
            folder / SETTINGS, yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=110)
        )
    write_json(folder / RESULT, dict(result))


def metadata_of(result: Mapping[str, Any], classes: Sequence[str], *more: str) -> dict[str, str]:
    """Return the metadata of scores and features: entries of a result, also those in `more`, and class names."""
    names = (*(name for name in ABOUT if name != "classes"), *more)
    return {name: str(result[name]) for name in names} | {"classes": json.dumps(list(classes))}


def write_scores(path: Path, scores: Scores) -> None:
    """Write scores as Parquet: id, label, predicted, score (a list of K float32); `about` is the file's metadata.

    Raises SkelpipeError where the parts do not fit each other, an id comes twice, or a score is NaN.
    """
    _check(scores, str(path))
    columns = {"id": scores.ids, "label": scores.labels, "predicted": scores.predicted}
    _write_table(path, columns, "score", scores.scores, scores.about)


def read_scores(path: Path) -> Scores:
    """Read what `write_scores` wrote; SkelpipeError naming what is damaged or missing."""
    table, about = _read_table(path, ("id", "label", "predicted", "score"))
    missing = [name for name in ABOUT if name not in about]
    if missing:
        raise SkelpipeError(f"{path}: does not say what its scores are of (no {', '.join(missing)})")
    scores = Scores(
        ids=table.column("id").to_pylist(),
        labels=_integers(table, "label", path),
        scores=_matrix(table, "score", path),
        about=about,
    )
    _check(scores, str(path))
    if not np.array_equal(scores.predicted, _integers(table, "predicted", path)):
        raise SkelpipeError(f"{path}: damaged: its predictions are not the classes of its highest scores")
    return scores


def write_subset_features(
    folder: Path, embedded: "Mapping[str, Embedded | None]", about: Mapping[str, str]
) -> None:
    """Write the features of each subset that has them to its file in an evaluation's folder."""
    for subset, each in embedded.items():
        if each is not None:
            write_features(folder / SUBSET_FEATURES[subset], each, {**about, "split": subset})


def write_embeddings(
    path: Path, ids: Sequence[str], labels: np.ndarray | None, features: np.ndarray, about: Mapping[str, str]
) -> None:
    """Write id, label (where there are any) and feature as Parquet, or as arrays under a name with `.npz`."""
    columns: dict[str, Any] = {"id": ids} | ({} if labels is None else {"label": labels})
    if path.suffix.lower() != ".npz":
        _write_table(path, columns, "feature", features, about)
        return
    with replacing(path) as file:
        arrays: dict[str, Any] = {name: np.array(column) for name, column in columns.items()}
        np.savez(file, **arrays, feature=features, about=np.array(json.dumps(dict(about))))


def write_features(path: Path, embedded: "Embedded", about: Mapping[str, str]) -> None:
    """Write embeddings as Parquet: id, label, feature (a list of D float32); `about` is the file's metadata."""
    columns = {"id": embedded.ids, "label": embedded.labels.numpy()}
    _write_table(path, columns, "feature", embedded.features.numpy(), about)


def read_features(path: Path) -> "tuple[Embedded, dict[str, str]]":
    """Read what `write_features` wrote; SkelpipeError naming what is damaged or missing."""
    from skelpipe.train.evaluation.embedding import Embedded

    table, about = _read_table(path, ("id", "label", "feature"))
    features = torch.from_numpy(_matrix(table, "feature", path))
    labels = torch.from_numpy(_integers(table, "label", path))
    return Embedded(features, labels, table.column("id").to_pylist()), about


def _check(scores: Scores, where: str) -> None:
    """Raise SkelpipeError where the parts of some scores do not fit each other."""
    count, shape = len(scores.ids), scores.scores.shape
    if len(shape) != 2 or scores.labels.shape != (count,) or shape[0] != count:
        raise SkelpipeError(
            f"{where}: {count} ids, {len(scores.labels)} labels and scores {list(shape)} do not fit"
        )
    try:
        names = scores.classes
    except (KeyError, ValueError, TypeError):
        raise SkelpipeError(f"{where}: `classes` is no JSON list of names") from None
    if len(names) != shape[1]:
        raise SkelpipeError(f"{where}: {shape[1]} scores per clip, but {len(names)} classes")
    if count and not 0 <= scores.labels.min() <= scores.labels.max() < len(names):
        raise SkelpipeError(f"{where}: a label is none of the {len(names)} classes")
    if len(set(scores.ids)) < count:
        twice = Counter(scores.ids).most_common(1)[0][0]
        raise SkelpipeError(f"{where}: the id {twice} comes more than once")
    bad = np.isnan(scores.scores).any(axis=1)
    if bad.any():
        raise SkelpipeError(
            f"{where}: the scores of {bad.sum()} clips are NaN, of {scores.ids[bad.argmax()]} first"
        )


def _write_table(
    path: Path, columns: Mapping[str, Any], name: str, matrix: np.ndarray, about: Mapping[str, str]
) -> None:
    values = np.ascontiguousarray(matrix, np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    kinds = {"id": pa.string()}
    arrays = [pa.array(column, kinds.get(key, pa.int64())) for key, column in columns.items()]
    table = pa.Table.from_arrays([*arrays, lists], [*columns, name])
    with replacing(path) as file:
        pq.write_table(table.replace_schema_metadata(dict(about)), file, compression="zstd")


def _read_table(path: Path, columns: Sequence[str]) -> tuple[pa.Table, dict[str, str]]:
    """Return a table's columns, none with gaps, and its metadata."""
    try:
        table = read_parquet(path.read_bytes())
    except FileNotFoundError:
        raise SkelpipeError(f"{path}: there is no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise SkelpipeError(f"{path}: cannot be read as Parquet: {shown(error)}") from None
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise SkelpipeError(f"{path}: has no column {', '.join(missing)}")
    table = table.select(list(columns)).combine_chunks()
    holes = [name for name in columns if table.column(name).null_count]
    if holes:
        raise SkelpipeError(f"{path}: its column {holes[0]} has gaps")
    if not pa.types.is_string(table.schema.field("id").type):
        raise SkelpipeError(f"{path}: its column id is no text")
    metadata = table.schema.metadata or {}
    try:
        return table, {key.decode(): value.decode() for key, value in metadata.items()}
    except UnicodeDecodeError:
        raise SkelpipeError(f"{path}: damaged: its metadata is no UTF-8 text") from None


def _integers(table: pa.Table, name: str, path: Path) -> np.ndarray:
    column = table.column(name)
    if not pa.types.is_integer(column.type):
        raise SkelpipeError(f"{path}: its column {name} is {column.type}, not whole numbers")
    return np.array(column.to_numpy(), np.int64)


def _matrix(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """Return a column of equally long lists as float32[N,D]."""
    kind = table.schema.field(name).type
    if not (pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)):
        raise SkelpipeError(f"{path}: its column {name} is {kind}, not lists of numbers of one length")
    column = table.column(name).combine_chunks()
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    flat = [np.asarray(chunk.flatten().to_numpy(zero_copy_only=False), np.float32) for chunk in chunks]
    values = np.concatenate(flat) if flat else np.empty(0, np.float32)
    return values.reshape(len(table), kind.list_size)


def _class_rows(matrix: np.ndarray, names: Sequence[str]) -> Iterable[Sequence[Any]]:
    clips, right = matrix.sum(axis=1).tolist(), matrix.diagonal().tolist()
    for label, accuracy in enumerate(per_class(matrix).tolist()):
        yield label, names[label], clips[label], right[label], f"{accuracy:.4f}" if clips[label] else ""


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    _write_text(path, text.getvalue())


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def _title(scores: Scores, result: Mapping[str, Any]) -> str:
    figures = ", ".join(f"{name} {value:.2f} %" for name, value in dict(result.get("figures", {})).items())
    return f"{scores.about['protocol']} on {scores.about['dataset']}, {scores.about['view']}: {figures}"
