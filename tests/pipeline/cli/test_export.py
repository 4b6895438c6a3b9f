"""`skelpipe export`: what it says, and how wrong usage and faults end."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from skelpipe.cli.export import FORMATS
from skelpipe.cli.export import export as command
from skelpipe.dataset import Dataset
from skelpipe.export import EXPORT_FORMATS
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKELPIPE_SHARDS", raising=False)
    return lambda *words: CliRunner().invoke(command, list(map(str, words)))


def test_the_choices_are_the_formats() -> None:
    """They are written twice, because help must not import numpy."""
    assert tuple(EXPORT_FORMATS) == FORMATS


@pytest.mark.parametrize("to", FORMATS)
def test_each_format(run: Callable[..., Result], folder: Path, tmp_path: Path, to: str) -> None:
    result = run(folder, "--to", to, "--out", "out")
    assert result.exit_code == 0, result.output
    counts = [Dataset.open(folder).count(subset) for subset in ("train", "test")]
    assert "out: {} training and {} test clips".format(*counts) in result.output
    again = run(folder, "--to", to, "--out", "out")
    assert again.exit_code == 2
    assert "is there already: pass --overwrite" in again.output
    replaced = run(folder, "--to", to, "--out", "out", "--overwrite", "--json")
    assert replaced.exit_code == 0, replaced.output
    said = json.loads(replaced.stdout)
    dataset = Dataset.open(folder)
    assert said["samples"] == {subset: dataset.count(subset) for subset in ("train", "test")}
    assert said["files"] == sum(len(names) for _, _, names in os.walk("out"))
    assert said["bytes"] == sum(path.stat().st_size for path in Path("out").rglob("*") if path.is_file())


def test_the_dataset_is_found_as_by_other_commands(
    run: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = run("--to", "csv", "--out", "out")
    assert missing.exit_code == 2
    assert "no dataset found" in missing.output
    monkeypatch.setenv("SKELPIPE_SHARDS", str(folder))
    assert run("--to", "csv", "--out", "out").exit_code == 0


def test_from_a_url(run: Callable[..., Result], web: str, folder: Path) -> None:
    assert run(web, "--to", "stgcn-npy", "--out", "far", "--pad-to", 0).exit_code == 0
    assert run(folder, "--to", "stgcn-npy", "--out", "near", "--pad-to", 0).exit_code == 0
    for path in Path("near").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == Path("far", path.relative_to("near")).read_bytes()


def test_a_subset_without_clips(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    """An empty array of the right shape, as the other program would open it."""
    raw = folder.parent / "raw"
    only = sorted(path for path in raw.iterdir() if "P001" in path.name)[:3]
    (tmp_path / "raw").mkdir()
    for path in only:
        (tmp_path / "raw" / path.name).write_bytes(path.read_bytes())
    prepare(load_manifest("ntu60"), [tmp_path / "raw"], tmp_path / "ds", Options("xsub", 10, 2), quiet=True)
    for to in FORMATS:
        result = run("ds", "--to", to, "--out", f"out-{to}")
        assert result.exit_code == 0, result.output
    with np.load("out-ctrgcn-npz/NTU60_CS.npz") as file:
        assert file["x_train"].shape == (3, 300, 150)
        assert file["x_test"].shape == (0, 300, 150)
        assert file["y_test"].shape == (0, 60)
    assert np.load("out-stgcn-npy/xsub/val_data.npy").shape == (0, 3, 300, 25, 2)


@pytest.mark.parametrize("to", FORMATS)
def test_a_full_disk_leaves_nothing(run: Callable[..., Result], folder: Path, to: str) -> None:
    """A limit on the size of files stands for a full disk: both end a write with an OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        result = run(folder, "--to", to, "--out", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.exit_code == 1, result.output
    assert "out: cannot be written: the " in result.output
    assert os.listdir(".") == []


def test_a_damaged_shard_is_named_and_nothing_is_left(run: Callable[..., Result], folder: Path) -> None:
    shutil.copytree(folder, "ds")
    shard = sorted(Path("ds/train/joint").glob("*.tar"))[1]
    shard.write_bytes(shard.read_bytes()[:-3000])
    result = run("ds", "--to", "csv", "--out", "out")
    assert result.exit_code == 1
    assert shard.name in result.output
    assert sorted(os.listdir(".")) == ["ds"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "avi"), "'avi' is not one of"),
        (("--to", "csv", "--dtype", "float16"), "--dtype is for --to pyskl-pkl and npy; csv has no use for it"),
        (("--to", "npy", "--pad-to", "-1"), "-1 is not in the range"),
    ],
)
def test_wrong_usage(run: Callable[..., Result], folder: Path, words: tuple[str, ...], said: str) -> None:
    result = run(folder, *words, "--out", "out")
    assert result.exit_code == 2
    assert said in result.output
    assert not Path("out").exists()
