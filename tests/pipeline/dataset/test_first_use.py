"""Shards that are hashed when they are first used: in the background, once per machine."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from skelpipe.dataset import Dataset, first_use
from skelpipe.dataset.joined import JoinedDataset
from skelpipe.errors import DatasetError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import FORMATS, Options, prepare

ROWS = np.arange(2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, skeleton_text, moving_bodies, ntu_names) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("first")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names(actions=1)):
        (root / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 9)))
    for name in ("shards", "hdf5"):
        options = Options("xsub", frames=8, bodies=1, shard_size=2)
        prepare(load_manifest("ntu60"), [root / "raw"], root / name, options, formats=FORMATS[name], quiet=True)
    return {name: root / name for name in ("shards", "hdf5")}


@pytest.fixture(autouse=True)
def records(monkeypatch, tmp_path) -> Path:
    """The user's cache folder, and a process that has hashed nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SKELPIPE_CHECK_SHARDS")
    monkeypatch.setattr(first_use, "_hashed", set())
    return tmp_path / "home" / "skelpipe" / "hashed"


def flip(path: Path) -> None:
    """Exchange a byte in the middle; size and time of change stay."""
    time = path.stat().st_mtime_ns
    with open(path, "rb+") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(time, time))


@pytest.mark.parametrize("name", ["shards", "hdf5"])
@pytest.mark.parametrize("background", [True, False])
def test_a_damaged_file_ends_reading_with_its_name(made, tmp_path, monkeypatch, name, background) -> None:
    monkeypatch.setattr(first_use, "INLINE_BYTES", 0 if background else 1 << 20)
    folder = Path(shutil.copytree(made[name], tmp_path / "ds"))
    path = folder / ("train/joint/000001.tar" if name == "shards" else "train.h5")
    flip(path)
    dataset = Dataset.open(folder)
    message = f"^{path}: damaged, or changed since it was prepared: its sha256 differs from the card"
    if not background:
        with pytest.raises(DatasetError, match=message):
            dataset.reader("train", "joint")
        return
    reader = dataset.reader("train", "joint")
    with pytest.raises(DatasetError, match=message):
        dataset.finish_checks()
    for read in (reader.gather, reader.mapped):
        with pytest.raises(DatasetError, match=message):
            read(ROWS)
    with pytest.raises(DatasetError, match=message):
        reader.confirm()
    off = Dataset.open(folder, check_shards=False)
    assert off.reader("train", "joint").gather(ROWS).shape == (2, 3, 8, 25, 1)
    monkeypatch.setenv("SKELPIPE_CHECK_SHARDS", "no")
    assert Dataset.open(folder).first_use is None
    monkeypatch.setenv("SKELPIPE_CHECK_SHARDS", "perhaps")
    with pytest.raises(UsageError, match="SKELPIPE_CHECK_SHARDS=perhaps: it can be yes or no"):
        Dataset.open(folder)


def test_one_of_several_datasets(made, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(first_use, "INLINE_BYTES", 0)
    folder = Path(shutil.copytree(made["shards"], tmp_path / "ds"))
    flip(folder / "train" / "joint" / "000000.tar")
    dataset = Dataset.open(folder)
    monkeypatch.setattr("skelpipe.dataset.joined._check", lambda _: None)  # of the same digest
    joined = JoinedDataset([Dataset.open(made["shards"]), dataset])
    reader = joined.reader("train", "joint")
    with pytest.raises(DatasetError, match="ds/train/joint/000000.tar: damaged"):
        joined.finish_checks()
    with pytest.raises(DatasetError, match="ds/train/joint/000000.tar: damaged"):
        reader.gather(ROWS)


@pytest.mark.parametrize("background", [True, False])
def test_a_file_is_hashed_once_per_machine(made, tmp_path, monkeypatch, records, background) -> None:
    monkeypatch.setattr(first_use, "INLINE_BYTES", 0 if background else 1 << 20)
    folder = Path(shutil.copytree(made["shards"], tmp_path / "ds"))
    hashed: list[Path] = []
    pieces = first_use._pieces
    monkeypatch.setattr(first_use, "_pieces", lambda path: hashed.append(path) or pieces(path))

    def opened() -> list[str]:
        hashed.clear()
        dataset = Dataset.open(folder)
        dataset.reader("train", "joint").gather(ROWS)
        dataset.finish_checks()
        return [path.relative_to(folder).as_posix() for path in hashed]

    every = ["train/joint/000000.tar", "train/joint/000001.tar"]
    assert opened() == every
    assert opened() == []
    monkeypatch.setattr(first_use, "_hashed", set())  # another process
    assert opened() == []
    (folder / every[1]).write_bytes((folder / every[1]).read_bytes())
    assert opened() == every[1:]
    shutil.rmtree(records)
    records.parent.chmod(0o500)
    records.parent.joinpath("hashed").touch() if os.access(
        records.parent, os.W_OK
    ) else None  # no folder can be made
    monkeypatch.setattr(first_use, "_hashed", set())
    assert opened() == every
    assert opened() == []
    records.parent.chmod(0o700)
