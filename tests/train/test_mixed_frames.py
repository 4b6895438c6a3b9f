"""Datasets with frames that SkeleMix cannot use are refused before anything is written or deleted."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from skelpipe.dataset import Dataset
from skelpipe.train.pretrain import main


@pytest.fixture(scope="module")
def of_ten_frames(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    return make_dataset(ntu_names(actions=2, subjects=(1, 3)), frames=10)


def pretrain(dataset: Dataset, out: Path, *options: str) -> Result:
    return CliRunner().invoke(
        main, ["--shards", str(dataset.path), "--out", str(out), "--device", "cpu", *options]
    )


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("skelemixclr", [], "these clips have 10: prepare the dataset with 44 frames"),
        ("skeattnclr", [], "these clips have 10: prepare the dataset with 28 frames"),
        ("skelemixclr", ["--set", "skelemixclr.blocks=[1, 2]"], "prepare the dataset with 8 or 12 frames"),
    ],
)
def test_no_multiple_of_four(
    of_ten_frames: Dataset, tmp_path: Path, method: str, options: list[str], message: str
) -> None:
    result = pretrain(of_ten_frames, tmp_path / "run", "--method", method, *options)
    assert result.exit_code == 2
    assert "multiple of 4 frames" in result.stderr
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_too_few_for_the_region(tiny_dataset: Dataset, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    result = pretrain(tiny_dataset, finished, "--method", "skelemixclr", "--overwrite")
    assert result.exit_code == 2
    assert "prepare at least 44 frames, or ask for at most 2 blocks" in result.stderr
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before
