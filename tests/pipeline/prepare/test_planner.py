"""What people keep their recordings in: folders, dots, tables of labels, numbers with gaps, no labels, windows."""

import gzip
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from skelpipe.dataset import Dataset
from skelpipe.dataset.verify import damages
from skelpipe.errors import DatasetError, RawError, SkelpipeError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

BASE: dict[str, Any] = {
    "name": "my",
    "reader": "npy",
    "layout": "coco-17",
    "axes": "T,V,C",
    "suffix": ".npy",
    "name_pattern": r"p(?P<subject>\d+)_a(?P<action>\d+)",
    "classes": ["a", "b"],
    "splits": {"xsub": {"field": "subject", "train": [1]}, "all": {"train": "all"}},
}
FRAMES = 20


def described(folder: Path, **keys: Any) -> Any:
    content = {key: value for key, value in {**BASE, **keys}.items() if value is not None}
    (folder / "my.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return load_manifest(str(folder / "my.yaml"))


def save(folder: Path, *names: str, frames: int = FRAMES) -> None:
    for seed, name in enumerate(names):
        path = folder / "raw" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        np.save(path, 100 + rng.normal(size=(frames, 17, 2)).cumsum(axis=0))


def make(folder: Path, split: str = "xsub", options: Mapping[str, Any] | None = None, **keys: Any) -> Dataset:
    manifest = described(folder, **keys)
    settings = Options(split, frames=16, bodies=1, shard_size=3)
    prepare(manifest, [folder / "raw"], folder / "ds", settings, quiet=True, **(options or {}))
    dataset = Dataset.open(folder / "ds")
    assert damages(dataset, quiet=True) == []
    return dataset


def rows(dataset: Dataset) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in dataset.table().to_pylist()}


def test_folders_are_fields_and_equal_file_names_do_not_collide(tmp_path) -> None:
    save(
        tmp_path,
        *(f"{part}/{what}/000{n}" for part in ("train", "test") for what in ("walk", "run") for n in "01"),
    )
    pattern = r"(?P<subject>train|test)/(?P<action>walk|run)/\d+"
    splits = {"xsub": {"field": "subject", "train": ["train"]}}
    dataset = make(tmp_path, name_pattern=pattern, classes=["walk", "run"], splits=splits)
    assert dataset.ids("train") == [f"train%2F{what}%2F000{n}" for what in ("run", "walk") for n in "01"]
    assert dataset.labels("test").tolist() == [1, 1, 0, 0]
    row = rows(dataset)["test%2Fwalk%2F0001"]
    assert (row["label"], row["subject"], row["action"]) == (0, "test", "walk")


def test_ids_with_dots_are_escaped_and_lists_may_hold_the_names(tmp_path) -> None:
    save(tmp_path, "p1.a1", "p1.a2", "p2.a1", "p2.a2")
    splits = {"xsub": {"field": "id", "train": ["p1.a1", "p2%2Ea2"]}}
    dataset = make(tmp_path, name_pattern=r"p(?P<subject>\d+)\.a(?P<action>\d+)", splits=splits)
    assert dataset.ids("train") == ["p1%2Ea1", "p2%2Ea2"]
    assert dataset.labels("train").tolist() == [0, 1]


def test_ids_reach_webdataset_whole(tmp_path) -> None:
    webdataset = pytest.importorskip("webdataset")
    save(tmp_path, "x y/p1.5_a1", "x y/p1.5_a2")
    dataset = make(tmp_path, "all", name_pattern=r"x y/p(?P<subject>[\d.]+)_a(?P<action>\d)")
    tar = str(tmp_path / "ds" / "train" / "joint" / "000000.tar")
    samples = list(webdataset.WebDataset(tar, shardshuffle=False, empty_check=False).decode())
    assert (
        [sample["__key__"] for sample in samples]
        == dataset.ids("train")
        == ["x%20y%2Fp1%2E5_a1", "x%20y%2Fp1%2E5_a2"]
    )
    assert [sample["cls"] for sample in samples] == [0, 1]
    index = (tmp_path / "ds" / "train" / "joint" / "000000.idx").read_text().splitlines()
    assert [len(line.split(" ")) for line in index] == [2, 8, 8]


@pytest.mark.parametrize("numbers", [{1: "sit", 8: "throw", 3: "wave"}, {3: "wave", 8: "throw", 1: "sit"}])
def test_numbers_with_gaps_keep_their_names(tmp_path, numbers) -> None:
    save(tmp_path, "p1_a1", "p1_a3", "p1_a8", "p2_a8")
    dataset = make(tmp_path, classes=numbers)
    assert dataset.classes == ("sit", "wave", "throw")
    assert dataset.labels("train").tolist() == [0, 1, 2]
    assert dataset.labels("test").tolist() == [2]
    save(tmp_path, "p1_a2")
    with pytest.raises(RawError, match=r"p1_a2\.npy: its name says class 2; the dataset's are numbered 1, 3, 8"):
        make(tmp_path, classes=numbers, options={"overwrite": True})


@pytest.mark.parametrize("skip", [False, True])
def test_classes_counted_from_0_are_never_shifted(tmp_path, skip) -> None:
    save(tmp_path, "p1_a0", "p1_a1", "p2_a0", "p2_a1")
    with pytest.raises(UsageError, match=r"p1_a0\.npy: its name says class 0; .*numbered 1 to 2.*first_label: 0"):
        make(tmp_path, options={"skip_bad": skip})
    assert make(tmp_path, first_label=0).labels("train").tolist() == [0, 1]


TABLE = "name,class,fold\np1.npy,sit,1\nsub/p2,throw,2\np3,sit,2\n"


def test_labels_and_fields_come_from_one_file(tmp_path) -> None:
    save(tmp_path, "sub/p2", "p1", "p3")
    (tmp_path / "labels.csv").write_text("\ufeff" + TABLE.replace("sub/", ""))
    keys: dict[str, Any] = {
        "name_pattern": None,
        "labels": {"file": "labels.csv", "id": "name", "label": "class"},
        "classes": ["throw", "sit"],
        "splits": {"folds": {"field": "fold", "test": [1]}},
    }
    dataset = make(tmp_path, "folds", **keys)
    assert dataset.ids("train") == ["p2", "p3"]
    assert dataset.labels("train").tolist() == [0, 1]
    assert rows(dataset)["p1"]["fold"] == 1
    (tmp_path / "labels.csv").write_text(TABLE)  # a name with its folder: it is part of the id
    dataset = make(tmp_path, "folds", options={"overwrite": True}, **keys)
    assert dataset.ids("train") == ["p3", "sub%2Fp2"]
    save(tmp_path, "p4")
    with pytest.raises(RawError, match=r"no row of labels\.csv names it"):
        make(tmp_path, "folds", options={"overwrite": True}, **keys)
    dataset = make(tmp_path, "folds", options={"overwrite": True, "skip_bad": True}, **keys)
    assert dataset.ids("train") == ["p3", "sub%2Fp2"]
    assert dataset.card["dropped"] == {"no row of labels.csv names it": 1}


def test_labels_as_json_and_numbers(tmp_path) -> None:
    save(tmp_path, "p1", "p2")
    (tmp_path / "labels.json").write_text(json.dumps({"p1": 8, "p2": 1}))
    labels = {"file": "labels.json"}
    keys = {"name_pattern": None, "labels": labels, "splits": {"all": {"train": "all"}}}
    dataset = make(tmp_path, "all", classes={1: "sit", 8: "throw"}, **keys)
    assert dataset.labels("train").tolist() == [1, 0]


@pytest.mark.parametrize(
    "keys",
    [{"name_pattern": r"rec(?P<n>\d+)"}, {"label": "none"}, {"label": "none", "name_pattern": None}],
)
def test_recordings_without_labels(tmp_path, keys) -> None:
    names = ["rec000", "rec001", "rec002", "rec003"] if "name_pattern" in keys else ["p1_a1", "p1_a2"]
    save(tmp_path, *names)
    dataset = make(tmp_path, "all", classes=None, splits={"all": {"train": "all"}}, **keys)
    assert dataset.ids("train") == names
    assert dataset.classes == ()
    assert dataset.stored_labels("train").tolist() == [-1] * len(names)
    with pytest.raises(DatasetError, match="ds: has no labels, which this needs"):
        dataset.labels("train")
    assert {row["label"] for row in rows(dataset).values()} == {None}
    sample = next(iter(dataset.webdataset("train", "joint")))
    assert sample["cls"] == -1


def test_recordings_without_labels_in_hdf5(tmp_path) -> None:
    save(tmp_path, "rec1", "rec2")
    keys = {"name_pattern": r"rec(?P<n>\d+)", "splits": {"all": {"field": "n", "test": []}}}
    dataset = make(tmp_path, "all", classes=None, options={"formats": ("hdf5",)}, **keys)
    assert dataset.stored_labels("train").tolist() == [-1, -1]


def test_windows_over_long_recordings(tmp_path) -> None:
    save(tmp_path, "p1_a1", frames=40)
    save(tmp_path, "p1_a2", frames=9)
    dataset = make(tmp_path, windows={"length": 16, "stride": 10})
    found = {id_: (row["recording"], row["start"], row["end"], row["label"]) for id_, row in rows(dataset).items()}
    assert found == {
        "p1_a1_000001": ("p1_a1", 1, 16, 0),
        "p1_a1_000011": ("p1_a1", 11, 26, 0),
        "p1_a1_000021": ("p1_a1", 21, 36, 0),
        "p1_a1_000025": ("p1_a1", 25, 40, 0),
        "p1_a2_000001": ("p1_a2", 1, 9, 1),
    }
    assert rows(dataset)["p1_a2_000001"]["note"] == "shorter than a window of 16 frames"
    raw = np.load(tmp_path / "raw" / "p1_a1.npy")
    clips = dataset.reader("train", "joint").gather(np.arange(4))
    for clip, start in zip(
        clips, (0, 10, 20, 24), strict=True
    ):  # 16 frames stay 16: only centring and scale change
        wanted = raw[start : start + 16] - raw[start : start + 16, :1]
        got = clip[:2, :, :, 0].transpose(1, 2, 0)
        moved = got - got[:, :1]
        assert np.allclose(moved, wanted, atol=1e-3)


@pytest.mark.parametrize("formats", [("shards",), ("hdf5",)])
def test_windows_without_a_person_are_counted_drops(tmp_path, formats) -> None:
    save(tmp_path, "p1_a1", "p1_a2", frames=48)
    path = tmp_path / "raw" / "p1_a1.npy"
    array = np.load(path)
    array[16:32] = 0
    np.save(path, array)
    dataset = make(tmp_path, windows={"length": 16}, options={"formats": formats})
    assert dataset.ids("train") == [f"p1_a{a}_{at:06d}" for a, at in [(1, 1), (1, 33), (2, 1), (2, 17), (2, 33)]]
    assert dataset.card["dropped"] == {"no body in any frame of the window": 1}
    assert rows(dataset)["p1_a1_000017"]["reason"] == "no body in any frame of the window"


def test_windows_that_all_are_without_a_person_are_an_error(tmp_path) -> None:
    save(tmp_path, "p1_a1", frames=48)
    np.save(tmp_path / "raw" / "p1_a1.npy", np.zeros_like(np.load(tmp_path / "raw" / "p1_a1.npy")))
    with pytest.raises(SkelpipeError, match="no body"):
        make(tmp_path, windows={"length": 16})


@pytest.mark.parametrize("folder", ["/data/x/", "C:\\data\\", "../there/"])
def test_rows_may_name_files_by_absolute_paths(tmp_path, folder) -> None:
    save(tmp_path, "r0", "r1")
    (tmp_path / "labels.csv").write_text(f"file,label\n{folder}r0.npy,2.0\n{folder}r1.npy,1.0\n")
    keys = {"name_pattern": None, "labels": {"file": "labels.csv", "id": "file"}}
    dataset = make(tmp_path, "all", splits={"all": {"train": "all"}}, **keys)
    assert dataset.ids("train") == ["r0", "r1"]
    assert dataset.labels("train").tolist() == [1, 0]
    (tmp_path / "labels.csv").write_text("file,label\nq0.npy,1\n")
    with pytest.raises(RawError, match=r"no row of labels\.csv names it; its name is r0, those of the rows .* q0"):
        make(tmp_path, "all", splits={"all": {"train": "all"}}, options={"overwrite": True}, **keys)


def test_why_nothing_is_left_at_planning(tmp_path) -> None:
    save(tmp_path, "p1_a1", "p2_a2")
    lists = {"xsub": {"field": "subject", "train": [7], "test": [8]}}
    with pytest.raises(UsageError, match=r"none of 2 recordings .* subject .*\(7, 8\); there are: 1, 2"):
        make(tmp_path, splits=lists)
    with pytest.raises(SkelpipeError, match=r"all recordings .* 2 left out: on the dataset's list of missing"):
        make(tmp_path, "all", missing=["p1_a1", "p2_a2"])
    (tmp_path / "raw" / "p1_a1.npy").rename(tmp_path / "raw" / "p1_a9.npy")
    (tmp_path / "raw" / "p2_a2.npy").unlink()
    with pytest.raises(SkelpipeError, match=r"1 left out: its name says class 9; the dataset's are"):
        make(tmp_path, "all", options={"skip_bad": True})


SPLITS = {
    "octal": ({"field": "subject", "train": [8]}, "YAML reads 010 as the octal number 8: write 10"),
    "suffix": (
        {"field": "id", "train": ["p10_a1.npy"]},
        "p10_a1.npy is named p10_a1 here, without folders and suffix",
    ),
    "case": ({"field": "id", "train": ["P10_a1"]}, "P10_a1 is written p10_a1 in the names"),
    "nothing like it": ({"field": "subject", "train": [3, 4]}, r"lists \(3, 4\).* is empty; there are: 10, 11"),
    "test": ({"field": "subject", "train": [10, 11], "test": [12]}, "the test subset is empty"),
}


@pytest.mark.parametrize("case", SPLITS)
def test_a_subset_that_is_empty_for_its_values_is_an_error(tmp_path, case) -> None:
    split, message = SPLITS[case]
    save(tmp_path, "p10_a1", "p11_a2")
    with pytest.raises(UsageError, match=message):
        make(tmp_path, splits={"xsub": split})
    assert not (tmp_path / "ds").exists()


def test_an_octal_number_in_the_text_of_a_manifest(tmp_path) -> None:
    save(tmp_path, "p10_a1", "p11_a2")
    described(tmp_path, splits={"xsub": {"field": "subject", "train": [77]}})
    path = tmp_path / "my.yaml"
    path.write_text(path.read_text().replace("77", "010"))
    with pytest.raises(UsageError, match="010 is read as 8; write 10, or '010' in quotes"):
        load_manifest(str(path))


def test_a_subset_without_a_rule_may_be_empty(tmp_path) -> None:
    save(tmp_path, "p1_a1")
    dataset = make(tmp_path)
    assert (dataset.count("train"), dataset.count("test")) == (1, 0)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_that_keeps_nothing_writes_nothing(tmp_path, earlier) -> None:
    save(tmp_path, "p1_a1", "p2_a2")
    before = make(tmp_path).digest if earlier else None
    for path in (tmp_path / "raw").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(
        SkelpipeError, match=r"none of the 2 recordings of my becomes a clip, nothing is written: p1_"
    ):
        make(tmp_path, options={"skip_bad": True, "overwrite": True})
    assert (tmp_path / "ds").exists() == earlier
    if earlier:
        assert Dataset.open(tmp_path / "ds").digest == before
        assert not (tmp_path / "ds" / ".prepare").exists()


WRITTEN: dict[str, Any] = {
    "lower case": lambda name, text: (name.lower(), text),
    "a text": lambda name, text: (f"{name}.txt", text),
    "gzip": lambda name, text: (f"{name}.gz", gzip.compress(text)),
    "byte order mark": lambda name, text: (name, b"\xef\xbb\xbf" + text),
    "CR": lambda name, text: (name, text.replace(b"\n", b"\r")),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_recordings_in_another_dress_give_the_same_dataset(raw_folder, ntu_names, tmp_path, way) -> None:
    ntu60, options, names = load_manifest("ntu60"), Options("xsub", 16), ntu_names(actions=1)
    raw = raw_folder(names)
    digest = prepare(ntu60, [raw], tmp_path / "a", options, quiet=True).card["digest"]
    for path in list(raw.iterdir()):
        name, content = WRITTEN[way](path.name, path.read_bytes())
        path.unlink()
        (raw / name).write_bytes(content)
    assert prepare(ntu60, [raw], tmp_path / "b", options, quiet=True).card["digest"] == digest


def test_an_archive_packed_on_a_mac(raw_folder, ntu_names, tmp_path) -> None:
    ntu60, options = load_manifest("ntu60"), Options("xsub", 16)
    raw = raw_folder(ntu_names(actions=1))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        for path in raw.iterdir():
            opened.write(path, path.name)
            opened.writestr(f"__MACOSX/._{path.name}", b"\0\5\x16\7")
    outcome = prepare(ntu60, [tmp_path / "a.zip"], tmp_path / "b", options, quiet=True)
    assert outcome.card["digest"] == prepare(ntu60, [raw], tmp_path / "a", options, quiet=True).card["digest"]
    assert [count for reason, count in outcome.outside.items() if "__MACOSX" in reason] == [8]


def test_names_are_shown_as_they_are_and_as_they_should_be(raw_folder, tmp_path) -> None:
    raw = raw_folder(["S1C1P1R1A1"])
    with pytest.raises(
        RawError, match=r"S1C1P1R1A1\.skeleton: .*; one of its names is S001C001P001R001A001\.skeleton"
    ):
        prepare(load_manifest("ntu60"), [raw], tmp_path / "ds", Options("xsub"), quiet=True)
    (raw / "S1C1P1R1A1.skeleton").rename(raw / "clip.csv")
    wanted = re.escape("1 other files, such as clip.csv); one would be named like S001C001P001R001A001.skeleton")
    with pytest.raises(SkelpipeError, match=wanted):
        prepare(load_manifest("ntu60"), [raw], tmp_path / "ds", Options("xsub"), quiet=True)
