"""`skelpipe import`: each format, written by a few lines of numpy, becomes a dataset whose clips are known."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, ["import", *map(str, words), "--workers", "1"])


def clips(folder: str | Path, subset: str = "train") -> dict[str, np.ndarray]:
    """Return the joint clips of a dataset by id."""
    dataset = Dataset.open(folder)
    rows = dataset.reader(subset, "joint").gather(np.arange(dataset.count(subset)))
    return dict(zip(dataset.ids(subset), rows, strict=True))


def stgcn(folder: Path, n: int = 6, frames: int = 30, length: int = 20) -> np.ndarray:
    """Write `train_data.npy` and `train_label.pkl` as st-gcn does; the first clip has one body."""
    array = np.zeros((n, 3, frames, 25, 2), np.float32)
    array[:, :, :length] = np.random.default_rng(0).normal(size=(n, 3, length, 25, 2)).cumsum(2)
    array[0, ..., 1] = 0
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "train_data.npy", array)
    names = [f"S001C002P001R001A{a:03}.skeleton" for a in range(1, n + 1)]
    with open(folder / "train_label.pkl", "wb") as file:
        pickle.dump((names, list(range(n))), file)
    return array


def test_stgcn_stored_as_it_is_and_resized(run, tmp_path) -> None:
    array = stgcn(tmp_path / "xview")
    result = run("xview", "--profile", "stored", "--out", "whole")
    assert result.exit_code == 0, result.output
    whole = clips("whole")
    assert sorted(whole) == [f"S001C002P001R001A{a:03}" for a in range(1, 7)]
    for a in range(6):
        np.testing.assert_array_equal(whole[f"S001C002P001R001A{a + 1:03}"], array[a])
    dataset = Dataset.open("whole")
    assert (dataset.name, dataset.split, dataset.profile, dataset.frames) == ("ntu60", "xview", "stored", 30)
    assert dataset.classes[0] == "drink water"
    assert run("xview", "--profile", "stored", "--frames", "10", "--out", "half").exit_code == 0
    expected = (array[3][:, 0:20:2] + array[3][:, 1:20:2]) / 2  # 20 frames, not 30, become 10
    np.testing.assert_allclose(clips("half")["S001C002P001R001A004"], expected, atol=1e-6)
