"""Open datasets: gathering rows, and the messages for damaged files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import card_digest
from skelpipe.dataset.stats import average_motion
from skelpipe.dataset.verify import damages
from skelpipe.errors import DatasetError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.skeleton import layout


@pytest.fixture
def folder(raw_folder, ntu_names, tmp_path) -> Path:
    raw = raw_folder(ntu_names())
    prepare(load_manifest("ntu60"), [raw], tmp_path / "ds", Options("xsub", 10, 2, 5), quiet=True)
    return tmp_path / "ds"


def test_reader_equals_webdataset_bit_for_bit(folder) -> None:
    dataset = Dataset.open(folder)
    for subset in ("train", "test"):
        for view in ("joint", "bone", "motion"):
            shards = sorted(str(path) for path in (folder / subset / view).glob("*.tar"))
            samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
            reader = dataset.reader(subset, view)
            assert [sample["__key__"] for sample in samples] == dataset.ids(subset)
            assert [sample["cls"] for sample in samples] == dataset.labels(subset).tolist()
            wanted = np.stack([sample[f"{view}.npy"] for sample in samples])
            got = reader.gather(np.arange(len(reader)))
            assert got.dtype == wanted.dtype
            assert np.array_equal(got, wanted)


@given(rows=st.lists(st.integers(0, 11), max_size=40))
def test_gather_takes_rows_in_any_order(folder, rows) -> None:
    reader = Dataset.open(folder).reader("train", "joint")
    every = np.concatenate([reader.gather(np.array([row])) for row in range(len(reader))])
    out = np.full((len(rows), *reader.shape), np.nan, np.float32)
    assert reader.gather(np.array(rows, np.int64), out) is out
    assert np.array_equal(out, every[rows])


def test_gather_refuses_rows_that_are_not_there(folder) -> None:
    reader = Dataset.open(folder).reader("train", "joint")
    for row in (-1, len(reader)):
        with pytest.raises(IndexError, match="from 0 to 11"):
            reader.gather(np.array([row]))


def test_average_motion_is_the_stored_anchor(folder) -> None:
    dataset = Dataset.open(folder)
    for view in dataset.views:
        assert np.abs(average_motion(dataset, view, quiet=True) - dataset.anchor(view)).max() < 1e-6


def test_verify_names_a_flipped_byte(folder) -> None:
    dataset = Dataset.open(folder)
    assert damages(dataset, quiet=True) == []
    for name in ("train/bone/000001.tar", "test/joint/000000.idx", "anchors/motion.npy", "samples.parquet"):
        path = folder / name
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        path.write_bytes(flipped)
        assert damages(dataset, quiet=True) == [f"{path}: damaged: its sha256 differs from the card"]
        path.write_bytes(whole[:-1])
        assert len(damages(dataset, quiet=True)) == 1
        path.unlink()
        assert damages(dataset, quiet=True) == [f"{path}: cannot be read: No such file or directory"]
        path.write_bytes(whole)


def test_a_damaged_sample_table_is_an_error_when_it_is_read(folder) -> None:
    (folder / "samples.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"samples\.parquet: damaged, or of another dataset"):
        Dataset.open(folder).ids("train")


def test_shards_are_checked_before_their_stride_is_trusted(folder) -> None:
    path = folder / "train" / "joint" / "000000.tar"
    whole = path.read_bytes()
    dataset = Dataset.open(folder)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"000000\.tar: \d+ bytes, \d+ expected"):
        dataset.reader("train", "joint")
    path.write_bytes((folder / "test" / "joint" / "000000.tar").read_bytes())
    with pytest.raises(DatasetError, match="not the card's shard"):
        dataset.reader("train", "joint")
    for content, message in ((b"", "the file is empty"), (None, "No such file")):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            dataset.reader("train", "joint")


def test_damaged_cards(folder) -> None:
    path = folder / "dataset.json"
    card = json.loads(path.read_text())

    def opened_as(content: str) -> Dataset:
        path.write_text(content)
        return Dataset.open(folder)

    with pytest.raises(DatasetError, match="is not the card"):
        opened_as("{")
    with pytest.raises(DatasetError, match="is not the card"):
        opened_as("[]")
    with pytest.raises(DatasetError, match="changed after prepare"):
        opened_as(json.dumps({**card, "split": "xview"}))
    with pytest.raises(DatasetError, match="format skelpipe-dataset 4"):
        opened_as(json.dumps({**card, "format": {"name": "skelpipe-dataset", "version": 4}}))
    wrong = {**card, "views": {view: {**said, "stride": 512} for view, said in card["views"].items()}}
    with pytest.raises(DatasetError, match="stride of view joint does not match"):
        opened_as(json.dumps({**wrong, "digest": card_digest(wrong)})).reader("train", "joint")
    path.unlink()
    with pytest.raises(DatasetError, match=r"no dataset\.json here"):
        Dataset.open(folder)


def test_layout_survives_the_card(folder) -> None:
    """Groups keep their order: the node differences of MsMCLR depend on it."""
    found, expected = Dataset.open(folder).layout, layout("kinect-v2-25")
    assert found == expected
    assert list(found.parts.items()) == list(expected.parts.items())
    for level, groups in expected.levels.items():
        assert list(found.levels[level].items()) == list(groups.items())


def test_wrong_names(folder) -> None:
    dataset = Dataset.open(folder)
    with pytest.raises(UsageError, match="train, test"):
        dataset.count("val")
    with pytest.raises(UsageError, match="joint, bone, motion"):
        dataset.reader("train", "velocity")
    with pytest.raises(UsageError, match="supported are"):
        Dataset.open("ftp://host/ds")


def test_importing_the_reader_loads_no_writer_and_no_raw_parser() -> None:
    code = "import sys, skelpipe.dataset; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    rooms = {"prepare", "raw", "preprocess", "drawing", "synth", "augment", "loader", "cli"}
    loaded = {name.split(".")[1] for name in done.stdout.split() if name.startswith("skelpipe.")}
    assert "dataset" in loaded
    assert not rooms & loaded
