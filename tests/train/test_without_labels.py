"""A dataset without labels: it trains and is embedded; what needs labels says so in a line."""

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.train import finetune, knn, linear
from skelpipe.train.map import main as map_clips

MANIFEST = """
name: mine
reader: npy
layout: coco-17
axes: T,V,C
label: none
name_pattern: rec(?P<n>\\d+)
suffix: .npy
splits:
  all: {field: n, test: [8, 9, 10, 11]}
terms: mine
"""


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("unlabelled")
    (folder / "mine.yaml").write_text(MANIFEST)
    (folder / "raw").mkdir()
    for n in range(20):
        np.save(folder / "raw" / f"rec{n}.npy", np.random.default_rng(n).normal(size=(12, 17, 3)).cumsum(0))
    prepare(load_manifest(str(folder / "mine.yaml")), [folder / "raw"], folder / "ds", Options("all", 8, 1))
    return Dataset.open(folder / "ds")


@pytest.fixture(scope="module")
def run(
    unlabelled: Dataset, tmp_path_factory: pytest.TempPathFactory, pretrain_small: Callable[..., object]
) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    result = pretrain_small(unlabelled, out, "--epochs", "2", "--recipe", "skeletonclr")
    assert result.exit_code == 0, result.output  # type: ignore[attr-defined]
    return out


def test_it_is_embedded(unlabelled: Dataset, run: Path, tmp_path: Path) -> None:
    words = [
        "--shards",
        str(unlabelled.path),
        "--checkpoint",
        str(run),
        "--out",
        str(tmp_path / "e"),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(map_clips, words)
    assert result.exit_code == 0, result.output
    (table,) = (tmp_path / "e").rglob("*.parquet")
    assert sorted(pq.read_table(table).column("id").to_pylist()) == [f"rec{n}" for n in (10, 11, 8, 9)]


@pytest.mark.parametrize("script", [knn.main, linear.main, finetune.main])
def test_what_needs_labels_says_so(unlabelled: Dataset, run: Path, tmp_path: Path, script: click.Command) -> None:
    words = ["--shards", str(unlabelled.path), "--checkpoint", str(run), "--device", "cpu"]
    result = CliRunner().invoke(script, words)
    assert result.exit_code in (1, 2)
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error:"))
    assert "label" in error
