"""`prepare` from raw folders: content, sample table, anchors, reproducibility."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from skelpipe.dataset import Dataset
from skelpipe.dataset.verify import damages
from skelpipe.errors import DatasetError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.preprocess import crosclr
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.source import TextBuffer
from skelpipe.skeleton import layout
from skelpipe.views import VIEWS, derive

NTU60 = load_manifest("ntu60")
SMALL = Options("xsub", frames=16, shard_size=5)
KINECT = layout("kinect-v2-25")


def make(raw: Path, out: Path, options: Options = SMALL, **kwargs) -> dict:
    return prepare(NTU60, [raw], out, options, quiet=True, **kwargs).card


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def without_raw_files(folder: Path) -> dict[str, object]:
    """The files of a dataset without what the table and the card say of the names and times of raw files."""
    content: dict[str, object] = dict(files_of(folder))
    card, table = json.loads(files_of(folder)["dataset.json"]), pq.read_table(folder / "samples.parquet")
    raw = card.pop("provenance")["columns"]
    del card["samples_file"]
    return content | {"dataset.json": card, "samples.parquet": table.drop_columns(raw).to_pylist()}


def test_every_clip_is_that_of_its_recording(raw_folder, ntu_names, tmp_path) -> None:
    names = ntu_names()
    raw = raw_folder(names, bodies=2)
    make(raw, tmp_path / "ds")
    dataset = Dataset.open(tmp_path / "ds")
    seen = []
    for subset in ("train", "test"):
        ids, labels = dataset.ids(subset), dataset.labels(subset)
        assert ids == sorted(ids)
        seen += ids
        for view in VIEWS:
            clips = dataset.reader(subset, view).gather(np.arange(len(ids)))
            for id_, label, clip in zip(ids, labels, clips, strict=True):
                expected = np.empty((3, 16, 25, 2), np.float32)
                recording = read_skeleton(TextBuffer().read(str(raw / f"{id_}.skeleton")), id_)
                crosclr(recording, KINECT, 16, 2, expected)
                assert np.array_equal(clip, derive(expected, view, KINECT))
                assert label == int(id_[-3:]) - 1
                assert (subset == "train") == (id_[9:12] == "001")  # subject 1 is for training, 3 for testing
    assert sorted(seen) == names


def test_anchors_are_means_and_table_has_all_rows(raw_folder, ntu_names, tmp_path) -> None:
    names = [*ntu_names(), "S001C002P005R002A008"]  # the last is on the missing list
    card = make(raw_folder(names), tmp_path / "ds")
    dataset = Dataset.open(tmp_path / "ds")
    for view in VIEWS:
        clips = dataset.reader("train", view).gather(np.arange(dataset.count("train")))
        np.testing.assert_allclose(dataset.anchor(view), clips.mean(axis=0, dtype=np.float64), atol=1e-6)
        assert dataset.anchor(view).dtype == np.float32
    rows = pq.read_table(tmp_path / "ds" / "samples.parquet").to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(names)
    dropped = [row for row in rows if row["reason"]]
    assert [row["id"] for row in dropped] == ["S001C002P005R002A008"]
    assert dropped[0]["shard"] is None
    assert card["dropped"] == {dropped[0]["reason"]: 1}
    one = next(row for row in rows if row["id"] == "S002C001P003R001A002")
    assert (one["setup"], one["camera"], one["subject"], one["replication"], one["label"]) == (2, 1, 3, 1, 1)
    assert one["frames"] == len(range(12 + names.index(one["id"]) % 5))
    assert one["split"] == "test"


def test_same_bytes_for_any_workers_folders_and_listing_order(
    raw_folder, ntu_names, tmp_path, monkeypatch
) -> None:
    names = ntu_names()
    raw = raw_folder(names)
    make(raw, tmp_path / "one")
    expected = files_of(tmp_path / "one")
    make(raw, tmp_path / "two", workers=2)
    assert files_of(tmp_path / "two") == expected
    nested = tmp_path / "nested" / "deep"
    nested.mkdir(parents=True)
    for number, name in enumerate(names):
        shutil.copy(raw / f"{name}.skeleton", nested if number % 2 else nested.parent)
    (nested / "readme.txt").write_text("no recording")
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *a, **k: ((d, s, f[::-1]) for d, s, f in walk(*a, **k)))
    make(tmp_path / "nested", tmp_path / "three")
    assert without_raw_files(tmp_path / "three") == without_raw_files(tmp_path / "one")
    assert {name.split("/")[-1] for name in expected} >= {
        "dataset.json",
        "samples.parquet",
        "README.md",
        "000001.idx",
    }


def test_the_digest_depends_on_content_and_options(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names())
    digests = [make(raw, tmp_path / "a")["digest"]]
    digests.append(make(raw, tmp_path / "b", Options("xsub", frames=15, shard_size=5))["digest"])
    digests.append(make(raw, tmp_path / "c", Options("xview", frames=16, shard_size=5))["digest"])
    file = raw / f"{ntu_names()[0]}.skeleton"
    text = file.read_text()
    file.write_text(text.replace(text.split("\n")[6].split()[0], "0.123", 1))
    digests.append(make(raw, tmp_path / "d")["digest"])
    assert len(set(digests)) == 4


def test_empty_train_subset_is_a_dataset_without_anchors(raw_folder, ntu_names, tmp_path) -> None:
    card = make(raw_folder(ntu_names(subjects=[3])), tmp_path / "ds")
    assert card["splits"]["train"]["samples"] == 0
    assert card["anchors"] == {"absent": "the training side is empty"}
    dataset = Dataset.open(tmp_path / "ds")
    assert len(dataset.reader("test", "joint")) == 12
    with pytest.raises(DatasetError, match="there is no anchor: the train subset is empty"):
        dataset.anchor("joint")
    assert damages(dataset, quiet=True) == []


def test_the_card_describes_the_dataset(raw_folder, ntu_names, tmp_path) -> None:
    card = make(raw_folder(ntu_names()), tmp_path / "ds")
    assert json.loads((tmp_path / "ds" / "dataset.json").read_text()) == json.loads(json.dumps(card))
    assert card["published"] == {"train": 40091, "test": 16487}
    assert card["layout"]["joints"][20] == "spine shoulder"
    assert len(card["classes"]) == 60
    assert card["views"]["joint"]["stride"] % 512 == 0
    text = (tmp_path / "ds" / "dataset.json").read_text()
    assert str(tmp_path) not in text
