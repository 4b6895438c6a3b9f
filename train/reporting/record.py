"""What the folder of a finished or running run holds: an evaluation, or a pre-training."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.train.evaluation.outcome import (
    CLASSES,
    CONFUSION,
    EMBEDDING,
    LOG,
    RESULT,
    SCORES,
    SETTINGS,
    TIMELINES,
    read_scores,
)
from skelpipe.train.recipes.reader import recipe_from
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.networks import find_weights, read_provenance
from skelpipe.train.running.provenance import Provenance
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import read_log
from skelpipe.untrusted import shown
from skelpipe.yaml_reader import read_yaml

__all__ = ["ClassRow", "Record", "read_record"]


@dataclass(frozen=True)
class ClassRow:
    """The result of one class: test clips, those recognised, and `accuracy` in %, None without clips."""

    label: int
    name: str
    clips: int
    right: int
    accuracy: float | None


@dataclass(frozen=True)
class Record:
    """All that a report shows of a run; what the folder does not hold is empty or None.

    `settings` is recipe.yaml. `recipe` is the same as a recipe of pre-training, None for other runs; `pretraining`
    is the recipe by which the network of an evaluation was pre-trained. `provenance` and `epochs` say what the
    weights of a pre-training were trained on and for how long. `confusion` is int64[K,K], one row per true class;
    `predicted` has each clip's label and prediction by its id. `embedding` and `timelines` are PNG files: the
    arrangement of the clips, and the classes of the frames of untrimmed videos.
    """

    path: Path
    result: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: PretrainRecipe | None = None
    pretraining: PretrainRecipe | None = None
    provenance: Provenance | None = None
    epochs: int = 0
    log: tuple[Mapping[str, Any], ...] = ()
    speed: tuple[Mapping[str, Any], ...] = ()
    classes: tuple[ClassRow, ...] = ()
    confusion: np.ndarray | None = None
    predicted: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    embedding: bytes | None = None
    timelines: bytes | None = None

    @property
    def unit(self) -> str:
        """What the figures count."""
        return "frames" if "segment" in str(self.result.get("protocol", "")) else "clips"

    @property
    def is_evaluation(self) -> bool:
        return bool(self.result)


def read_record(path: Path) -> Record:
    """Read the folder of a run.

    Raises UsageError if it is not one, SkelpipeError if a file in it is damaged.
    """
    folder = RunFolder(path)
    result = _json(path / RESULT)
    if not result and not folder.is_run():
        raise UsageError(f"{path}: is no run: it has neither {RESULT} nor {folder.recipe.name}")
    settings, recipe, pretraining = _settings(path / SETTINGS)
    provenance, epochs = (None, 0) if result else _provenance(path)
    classes = _classes(path / CLASSES)
    return Record(
        path,
        result,
        settings,
        recipe,
        pretraining,
        provenance,
        epochs,
        tuple(read_log(path / LOG)),
        tuple(read_log(folder.speed)),
        classes,
        _confusion(path / CONFUSION, len(classes)),
        _predicted(path / SCORES),
        _bytes(path / EMBEDDING),
        _bytes(path / TIMELINES),
    )


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SkelpipeError(f"{path}: cannot be read as JSON: {shown(error)}") from None
    if not isinstance(content, dict):
        raise SkelpipeError(f"{path}: holds no JSON object")
    return content


def _settings(path: Path) -> tuple[Mapping[str, Any], PretrainRecipe | None, PretrainRecipe | None]:
    """Return the values in recipe.yaml, the same as a recipe of pre-training, and that of an evaluated network.

    Either recipe is None where there is none.
    """
    if not path.is_file():
        return {}, None, None
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise SkelpipeError(f"{path}: holds no `key: value` lines")
    before = content.pop("pretraining", None)
    recipe = _recipe(content, path)
    if recipe is not None:
        return recipe.content(), recipe, None
    return content, None, _recipe(before, path)


def _recipe(content: Any, path: Path) -> PretrainRecipe | None:
    """Return a recipe of pre-training; None for other settings."""
    try:
        return recipe_from(content, str(path), PretrainRecipe) if isinstance(content, dict) else None
    except UsageError:
        return None


def _provenance(path: Path) -> tuple[Provenance | None, int]:
    try:
        return read_provenance(find_weights(str(path)))
    except UsageError:
        return None, 0  # nothing is trained yet, or it is trained with labels


def _classes(path: Path) -> tuple[ClassRow, ...]:
    found = []
    for number, row in enumerate(_csv(path)[1:], 2):
        try:
            label, name, clips, right, accuracy = row
            found.append(ClassRow(int(label), name, int(clips), int(right), float(accuracy) if accuracy else None))
        except ValueError:
            raise SkelpipeError(f"{path}:{number}: expected class, name, clips, right and accuracy") from None
    return tuple(found)


def _confusion(path: Path, classes: int) -> np.ndarray | None:
    rows = _csv(path)[1:]
    if not rows:
        return None
    try:
        matrix = np.array([[int(count) for count in row[1:]] for row in rows], np.int64)
    except ValueError:
        matrix = np.empty(0, np.int64)
    if matrix.ndim != 2 or len(set(matrix.shape)) != 1 or len(matrix) != classes:
        raise SkelpipeError(f"{path}: expected a row and a column of counts for each of {classes} classes")
    return matrix


def _csv(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    try:
        return list(csv.reader(io.StringIO(path.read_text("utf-8"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SkelpipeError(f"{path}: cannot be read as CSV: {shown(error)}") from None


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot be read: {error.strerror or error}") from None


def _predicted(path: Path) -> Mapping[str, tuple[int, int]]:
    if not path.is_file():
        return {}
    scores = read_scores(path)
    pairs = zip(scores.labels.tolist(), scores.predicted.tolist(), strict=True)
    return dict(zip(scores.ids, pairs, strict=True))
