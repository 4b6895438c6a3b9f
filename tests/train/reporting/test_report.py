"""Reports of runs of every kind, and of folders that are none."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.reporting.report import write_report


def test_a_pre_training_has_a_report_too(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    page = read(write_report(run, tiny_dataset).parent)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert page.texts["h1"] == ["Pre-training of skeletonclr on ntu60-xsub (joint)"]
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["knn@20"][0] == f"{log[-1]['knn@20']:.2f}"
    assert rows["digest"] == [tiny_dataset.digest]
    assert rows["temperature"] == ["0.2"]
    assert "source" not in "".join(rows)  # the papers' figures are no settings
    assert {"loss", "knn@20", "lr"} <= {
        a["aria-label"].split(":")[0] for a in page.with_class("chart") if a["aria-label"]
    }
    assert any(text == "query and key" for text in page.texts["h3"])
    assert len(page.with_class("clip")) == 2


def test_an_evaluation_shows_the_recipe_of_pre_training(
    own: Path, tiny_dataset: Dataset, read: Callable[[Path], Any]
) -> None:
    recipe = with_overrides(load_recipe("aimclr"), ["encoder.width=2", "encoder.out_channels=8", "queue=321"])
    settings = {"epochs": 4, "optimiser": {"lr": 3.0}, "pretraining": recipe.content()}
    (own / "recipe.yaml").write_text(yaml.safe_dump(settings))
    page = read(write_report(own, tiny_dataset).parent)
    assert ["optimiser.lr", "3"] in page.rows
    assert ["queue", "321"] in page.rows
    assert not any(row[0].startswith("pretraining") for row in page.rows)
    cards = [text for text in page.texts["article"] if "as stored" in text]
    assert [card.split("as stored")[0].strip() for card in cards] == ["query and key", "extreme"]
    assert any(text.startswith("The views of the last epoch of pre-training") for text in page.texts["p"])


def test_a_run_that_has_only_begun_has_a_report(
    finished: Path, tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    run = tmp_path / "begun"
    run.mkdir()
    shutil.copy(finished / "recipe.yaml", run)
    assert "0 of 6 epochs" in "".join(read(write_report(run).parent).texts["p"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("result.json", "{", "result.json: cannot be read as JSON"),
        ("result.json", "[1]", "result.json: holds no JSON object"),
        ("recipe.yaml", "a: [", "recipe.yaml:1: is no YAML"),
        ("recipe.yaml", "- 1", "recipe.yaml: holds no `key: value` lines"),
        ("classes.csv", "class,name,clips,right,accuracy\n0,a,many,1,2\n", "classes.csv:2: expected class"),
        ("confusion.csv", "class,0\n0,1\n", "confusion.csv: expected a row and a column"),
        ("scores.parquet", "no parquet", "scores.parquet: cannot be read as Parquet"),
    ],
)
def test_a_damaged_file_is_named(own: Path, name: str, content: str, says: str) -> None:
    (own / name).write_text(content)
    with pytest.raises(SkelpipeError, match=re.escape(says)):
        write_report(own)


def test_another_dataset_and_no_run_are_refused(
    own: Path, tmp_path: Path, make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]
) -> None:
    other = make_dataset(ntu_names(actions=2))
    before = (own / "report.html").read_bytes()
    with pytest.raises(UsageError, match="has digest"):
        write_report(own, other)
    assert (own / "report.html").read_bytes() == before
    with pytest.raises(UsageError, match="is no run"):
        write_report(tmp_path)


@pytest.mark.parametrize(("first", "said"), [(None, True), ("background", False)])
def test_the_page_says_from_where_classes_count(own: Path, first: str | None, said: bool) -> None:
    """A segmentation's class 0 is the background: its actions count from 1 as everywhere."""
    if first is not None:
        rows = (own / "classes.csv").read_text().splitlines()
        rows[1] = ",".join(["0", first, *rows[1].split(",")[-3:]])
        (own / "classes.csv").write_text("\n".join(rows) + "\n")
    page = write_report(own).read_text()
    assert ("Classes count from 0 on this page" in page) == said
    assert ("Class 0 is the background" in page) != said
