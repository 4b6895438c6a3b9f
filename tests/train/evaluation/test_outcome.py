"""Scores, features and results as files: they are read back unchanged, damaged files are one-line errors."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.train.evaluation.embedding import Embedded
from skelpipe.train.evaluation.outcome import (
    Scores,
    open_folder,
    read_features,
    read_scores,
    write_features,
    write_outcome,
    write_scores,
)

NAMES = ["stand, up", "sit", "wave"]
ABOUT = {
    "protocol": "linear",
    "dataset": "synthetic",
    "digest": "d" * 64,
    "split": "test",
    "view": "joint",
    "what": "a synthetic network",
    "classes": json.dumps(NAMES),
}


@pytest.fixture
def scores() -> Scores:
    values = np.array([[0.1, 0.7, 0.2], [3, 1, 2], [0, 0, 0], [5, 6, 6]], np.float32)
    return Scores(["a", "b", "c", "d"], np.array([1, 0, 1, 0]), values, dict(ABOUT))


def parquet(path: Path, **columns: Any) -> None:
    """Write a file as another program might."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(4, dtype=np.float32)), 2)
    standard = {"id": ["a", "b"], "label": [0, 1], "predicted": [1, 1], "score": lists}
    about = ABOUT | {"classes": '["x", "y"]'} | columns.pop("about", {})
    table = pa.table({key: value for key, value in (standard | columns).items() if value is not None})
    pq.write_table(table.replace_schema_metadata({key: value for key, value in about.items() if value}), path)


def test_scores_come_back_and_others_can_read_them(tmp_path: Path, scores: Scores) -> None:
    path = tmp_path / "scores.parquet"
    write_scores(path, scores)
    back = read_scores(path)
    assert back.ids == scores.ids
    assert back.about == scores.about
    assert back.labels.dtype == np.int64
    assert back.scores.dtype == np.float32
    assert np.array_equal(back.labels, scores.labels)
    assert np.array_equal(back.scores, scores.scores)
    assert back.classes == NAMES
    rows = pq.read_table(path).to_pylist()
    assert rows[0] == {"id": "a", "label": 1, "predicted": 1, "score": pytest.approx([0.1, 0.7, 0.2])}
    assert [row["predicted"] for row in rows] == [1, 0, 0, 1]  # ties to the lowest class


def test_equal_scores_give_equal_bytes(tmp_path: Path, scores: Scores) -> None:
    write_scores(tmp_path / "a", scores)
    write_scores(tmp_path / "b", scores)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a", "b", "a", "d"]}, "the id a comes more than once"),
        ({"ids": ["a"]}, "1 ids, 4 labels"),
        ({"labels": np.array([0, 1, 2, 3])}, "none of the 3 classes"),
        ({"about": ABOUT | {"classes": '["x"]'}}, "3 scores per clip, but 1 classes"),
        ({"about": {}}, "no JSON list"),
        ({"scores": np.full((4, 3), np.nan, np.float32)}, "4 clips are NaN, of a first"),
    ],
)
def test_scores_that_contradict_themselves_are_not_written(
    tmp_path: Path, scores: Scores, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SkelpipeError, match=message):
        write_scores(tmp_path / "s.parquet", replace(scores, **change))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"score": None}, "has no column score"),
        ({"id": None, "label": None}, "has no column id, label"),
        ({"about": {"digest": ""}}, r"does not say what its scores are of \(no digest\)"),
        ({"label": [0, None]}, "its column label has gaps"),
        ({"label": [0.5, 1]}, "its column label is double"),
        ({"id": [1, 2]}, "its column id is no text"),
        ({"id": ["a", "a"]}, "the id a comes more than once"),
        ({"score": [0.5, 1]}, "its column score is double"),
        ({"label": [0, 2]}, "none of the 2 classes"),
        ({"predicted": [0, 1]}, "damaged"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = tmp_path / "foreign.parquet"
    parquet(path)
    assert read_scores(path).predicted.tolist() == [1, 1]
    parquet(path, **columns)
    with pytest.raises(SkelpipeError, match=message) as caught:
        read_scores(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_damaged_file_is_one_line(tmp_path: Path, scores: Scores, kept: int) -> None:
    path = tmp_path / "scores.parquet"
    write_scores(path, scores)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SkelpipeError, match="cannot be read as Parquet") as caught:
        read_scores(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(SkelpipeError, match="there is no such file"):
        read_scores(tmp_path / "nowhere")


def test_features_come_back(tmp_path: Path) -> None:
    features = torch.randn(5, 3)
    given = Embedded(features, torch.arange(5), [f"clip {i}" for i in range(5)])
    write_features(tmp_path / "f.parquet", given, {"split": "train"})
    back, about = read_features(tmp_path / "f.parquet")
    assert torch.equal(back.features, features)
    assert back.labels.tolist() == [0, 1, 2, 3, 4]
    assert back.ids == given.ids
    assert about == {"split": "train"}
    assert pq.read_table(tmp_path / "f.parquet").column_names == ["id", "label", "feature"]


def test_an_outcome_is_whole(tmp_path: Path, scores: Scores) -> None:
    folder = tmp_path / "runs" / "x"
    open_folder(folder, overwrite=False)
    result = {"protocol": "linear", "figures": {"top1": 50.0}}
    write_outcome(folder, scores, result, log=[{"epoch": 1, "loss": 0.5}], settings={"epochs": 1, "lr": 0.5})
    with open(folder / "classes.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["class", "name", "clips", "right", "accuracy"],
        ["0", "stand, up", "2", "1", "50.0000"],
        ["1", "sit", "2", "1", "50.0000"],
        ["2", "wave", "0", "0", ""],
    ]
    with open(folder / "confusion.csv", newline="") as file:
        matrix = list(csv.reader(file))
    assert matrix == [["class", "0", "1", "2"], ["0", "1", "1", "0"], ["1", "1", "1", "0"], ["2", "0", "0", "0"]]
    assert json.loads((folder / "result.json").read_text()) == result
    assert json.loads((folder / "log.jsonl").read_text()) == {"epoch": 1, "loss": 0.5}
    assert yaml.safe_load((folder / "recipe.yaml").read_text()) == {"epochs": 1, "lr": 0.5}
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert read_scores(folder / "scores.parquet").ids == scores.ids


def test_without_matplotlib_only_the_picture_is_missing(
    tmp_path: Path, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> None:
        raise UsageError("drawing needs matplotlib")

    monkeypatch.setattr("skelpipe.train.evaluation.confusion_plot.new_figure", absent)
    write_outcome(tmp_path, scores, {"protocol": "linear", "figures": {"top1": 50.0}})
    assert not (tmp_path / "confusion.png").exists()
    assert (tmp_path / "result.json").is_file()


def test_a_folder_is_replaced_only_when_that_costs_nothing(tmp_path: Path, scores: Scores) -> None:
    folder = tmp_path / "run"
    write_outcome(folder, scores, {"protocol": "linear", "figures": {"top1": 50.0}})
    with pytest.raises(UsageError, match="already holds an evaluation: give --overwrite"):
        open_folder(folder, overwrite=False)
    assert (folder / "scores.parquet").is_file()
    open_folder(folder, overwrite=True)
    assert not any(folder.iterdir())

    (folder / "scores.parquet.part").touch()  # what a killed evaluation leaves
    open_folder(folder, overwrite=False)
    assert not any(folder.iterdir())

    (folder / "result.json").touch()
    (folder / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"holds thesis\.tex"):
        open_folder(folder, overwrite=True)
    assert (folder / "result.json").exists()
    with pytest.raises(UsageError, match="is a file"):
        open_folder(folder / "thesis.tex", overwrite=True)


def test_a_pretraining_run_is_never_overwritten(finished: Path) -> None:
    before = sorted(finished.iterdir())
    with pytest.raises(UsageError, match="which no evaluation wrote"):
        open_folder(finished, overwrite=True)
    assert sorted(finished.iterdir()) == before
