"""Fused scores with and without their dataset; how it is found."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.train import knn, linear
from skelpipe.train.evaluation.fusion import find_dataset
from skelpipe.train.evaluation.outcome import Scores, write_scores
from skelpipe.train.fuse import main

AUGMENT = {"name": "normal", "shear": 0.5, "crop": 6}


@pytest.fixture
def folders(tiny_dataset: Dataset, tmp_path: Path) -> list[str]:
    """Scores of two streams for the test clips, with mistakes, and the recipes of their training."""
    labels = np.asarray(tiny_dataset.labels("test"), np.int64)
    made = []
    for seed, view in enumerate(("joint", "bone")):
        scores = np.random.default_rng(seed).normal(size=(len(labels), 60)).astype(np.float32)
        about = {"protocol": "finetune", "dataset": "ntu60-xsub", "digest": tiny_dataset.digest, "split": "test"}
        about |= {"view": view, "what": "mine", "classes": json.dumps(list(tiny_dataset.classes))}
        folder = tmp_path / "streams" / view
        folder.mkdir(parents=True)
        write_scores(folder / "scores.parquet", Scores(tiny_dataset.ids("test"), labels, scores, about))
        (folder / "recipe.yaml").write_text(yaml.safe_dump({"protocol": "finetune", "augment": AUGMENT}))
        made.append(str(folder))
    return made


@pytest.fixture
def fuse(folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Result, str]]:
    """`train/fuse.py` in an empty folder; what it printed and the report."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("SKELPIPE_SHARDS", raising=False)

    def run(*options: str) -> tuple[Result, str]:
        result = CliRunner().invoke(main, [*folders, "--out", str(tmp_path / "fused"), "--overwrite", *options])
        page = tmp_path / "fused" / "report.html"
        return result, page.read_text() if page.is_file() else ""

    return run


def drawings(page: str, dataset: Dataset) -> tuple[int, int]:
    """How many test clips a page draws, and how many previews of augmentations."""
    labels = re.findall(r'aria-label="([^"]*)"', page)
    clips = [text for text in labels if text.split(", ")[-1] in dataset.ids("test")]
    return len(clips), sum("as training" in text for text in labels)


def test_clips_of_a_named_dataset_are_drawn(fuse: Callable[..., tuple], tiny_dataset: Dataset) -> None:
    result, page = fuse("--shards", str(tiny_dataset.path))
    assert result.exit_code == 0, result.output
    assert drawings(page, tiny_dataset) == (3, 1)  # its three classes all have mistakes; one view is augmented
    assert "--shards DATASET" not in page


def test_a_dataset_under_data_is_found_by_its_digest(
    fuse: Callable[..., tuple], tiny_dataset: Dataset, make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    other = make_dataset(["S001C001P001R001A001", "S001C001P003R001A001"])
    (tmp_path / "here" / "data").mkdir()
    (tmp_path / "here" / "data" / "a").symlink_to(other.path)
    assert find_dataset(None, tiny_dataset.digest) is None
    (tmp_path / "here" / "data" / "b").symlink_to(tiny_dataset.path)
    (tmp_path / "here" / "data" / "broken").mkdir()
    (tmp_path / "here" / "data" / "broken" / "dataset.json").write_text("{")
    found = find_dataset(None, tiny_dataset.digest)
    assert found is not None
    assert found.digest == tiny_dataset.digest
    assert drawings(fuse()[1], tiny_dataset)[0] == 3


def test_without_the_dataset_the_report_says_how_to_draw(
    fuse: Callable[..., tuple], tiny_dataset: Dataset
) -> None:
    result, page = fuse()
    assert result.exit_code == 0, result.output
    assert drawings(page, tiny_dataset) == (0, 0)
    assert "--shards DATASET" in page


def test_another_dataset_is_refused(fuse: Callable[..., tuple], make_dataset: Callable[..., Dataset]) -> None:
    other = make_dataset(["S001C001P001R001A001", "S001C001P003R001A001"])
    result, page = fuse("--shards", str(other.path))
    assert (result.exit_code, page) == (2, "")
    assert "the scores are of a dataset with" in result.stderr
    with pytest.raises(UsageError, match="has digest"):
        find_dataset(str(other.path), "0" * 64)


def test_augmented_evaluations_show_what_they_do_to_clips(
    tiny_dataset: Dataset, finished: Path, tmp_path: Path
) -> None:
    common = ["--shards", str(tiny_dataset.path), "--checkpoint", str(finished), "--device", "cpu", "--augment"]
    short = ["--epochs", "1", "--batch-size", "8", "--lr", "0.1"]
    for command, name, more in ((knn.main, "knn", []), (linear.main, "linear", short)):
        out = tmp_path / name
        assert CliRunner().invoke(command, [*common, *more, "--out", str(out)]).exit_code == 0
        assert drawings((out / "report.html").read_text(), tiny_dataset)[1] == 1
