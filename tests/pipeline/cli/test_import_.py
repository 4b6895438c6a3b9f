"""`skelpipe import`: each format, written by a few lines of numpy, becomes a dataset whose clips are known."""

import json
import pickle
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.raw.collections.formats import IMPORT_FORMATS


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


def ctrgcn(path: Path, frames: int = 30, length: int = 20) -> np.ndarray:
    """Write four training and two test recordings as CTR-GCN does; return them as [N,T,M,V,C]."""
    x = np.zeros((6, frames, 2, 25, 3), np.float32)
    x[:, :length] = np.random.default_rng(0).normal(size=(6, length, 2, 25, 3)).cumsum(1)
    x[0, :, 1] = 0
    y = np.eye(60)[[0, 5, 2, 3, 1, 59]]
    flat = x.reshape(6, frames, 150)
    np.savez(path, x_train=flat[:4], y_train=y[:4], x_test=flat[4:], y_test=y[4:])
    return x


def test_ctrgcn_arrays_are_clips_of_their_profile(run, tmp_path) -> None:
    x = ctrgcn(tmp_path / "NTU60_CS.npz")
    result = run("NTU60_CS.npz", "--frames", "10")
    assert result.exit_code == 0, result.output
    assert "40,091 training and 16,487 test clips are published" in result.output
    dataset = Dataset.open("data/ntu60-xsub")
    assert (dataset.profile, dataset.count("train"), dataset.count("test")) == ("ctrgcn", 4, 2)
    assert dict(zip(dataset.ids("train"), dataset.labels("train"), strict=True))["train_1"] == 5
    wanted = (x[5, 0:20:2] + x[5, 1:20:2]) / 2  # 20 frames become 10
    np.testing.assert_allclose(clips("data/ntu60-xsub", "test")["test_1"], wanted.transpose(3, 0, 2, 1), atol=1e-6)


def test_crosclr_positions_are_clips_already(run, tmp_path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 3, 50, 25, 2)).astype(np.float32)
    array[2, :, 45:] = 0  # zeros at the end of a clip belong to it
    for subset in ("train", "val"):
        np.save(tmp_path / f"{subset}_position.npy", array)
        np.save(tmp_path / f"{subset}_motion.npy", array)
        np.save(tmp_path / f"{subset}_label.npy", np.array([[0], [1], [1]]))
    result = run(".", "--out", "ds", "--name", "gym")
    assert result.exit_code == 0, result.output
    assert "train_motion.npy: left out: bones and motion are derived from the joints" in result.output
    dataset = Dataset.open("ds")
    assert (dataset.profile, dataset.frames, dataset.name) == ("crosclr", 50, "gym")
    np.testing.assert_array_equal([clips("ds")[f"train_{n}"] for n in range(3)], array)
    np.testing.assert_array_equal([clips("ds", "test")[f"test_{n}"] for n in range(3)], array)


@pytest.mark.parametrize("protocol", [2, 4])
def test_pyskl_in_space_and_in_pictures(run, tmp_path, protocol: int) -> None:
    rng = np.random.default_rng(0)
    solid = [
        {"frame_dir": name, "label": n, "total_frames": 8, "keypoint": rng.normal(size=(1, 8, 25, 3)).astype("f2")}
        for n, name in enumerate(("S001C001P001R001A001", "S001C001P002R001A002"))
    ]
    flat = [
        {
            "frame_dir": f"v{n}",
            "label": n,
            "img_shape": (1080, 1920),
            "original_shape": (1080, 1920),
            "total_frames": 8,
            "keypoint": rng.uniform(1, 900, (2, 8, 17, 2)).astype("f2"),
            "keypoint_score": rng.uniform(0.1, 1, (2, 8, 17)).astype("f2"),
        }
        for n in range(2)
    ]
    for name, annotations in (("ntu60_3danno", solid), ("gym_hrnet", flat)):
        names = [annotation["frame_dir"] for annotation in annotations]
        split = {"xsub_train": names[:1], "xsub_val": names[1:], "xview_train": names[1:], "xview_val": names[:1]}
        (tmp_path / f"{name}.pkl").write_bytes(
            pickle.dumps({"split": split, "annotations": annotations}, protocol)
        )
        options = ("--split", "xsub", "--profile", "stored", "--frames", "8", "--out", name)
        result = run(f"{name}.pkl", *options)
        assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(
        clips("ntu60_3danno", "test")["S001C001P002R001A002"],
        solid[1]["keypoint"].transpose(3, 1, 2, 0).astype(np.float32),
    )
    assert Dataset.open("ntu60_3danno").name == "ntu60"
    dataset = Dataset.open("gym_hrnet")
    assert (dataset.channels, dataset.layout.name) == (("x", "y", "z", "score"), "coco-17")
    clip = clips("gym_hrnet")["v0"]
    keypoint = flat[0]["keypoint"].transpose(3, 1, 2, 0).astype(np.float32)
    np.testing.assert_array_equal(clip[0], keypoint[0])
    np.testing.assert_array_equal(clip[1], -keypoint[1])  # y grows downwards in pictures
    assert not clip[2].any()
    np.testing.assert_array_equal(clip[3], flat[0]["keypoint_score"].transpose(1, 2, 0).astype(np.float32))


def test_a_folder_of_npy_per_class(run, tmp_path) -> None:
    array = np.random.default_rng(0).normal(size=(8, 33, 4)).astype(np.float32)
    for name in ("train/squat/a", "train/lunge/b", "test/squat/c"):
        (tmp_path / "gym" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "gym" / f"{name}.npy", array)
    options = ("--channels", "x,y,z,visibility", "--profile", "stored", "--frames", "8", "--out", "ds")
    result = run("gym", *options)
    assert result.exit_code == 0, result.output
    dataset = Dataset.open("ds")
    assert (dataset.name, dataset.classes, dataset.layout.name) == ("gym", ("lunge", "squat"), "mediapipe-33")
    np.testing.assert_array_equal(clips("ds", "test")["c"][..., 0], array.transpose(2, 0, 1))


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_bytes_do_not_depend_on_workers_or_interruptions(run, tmp_path, monkeypatch) -> None:
    stgcn(tmp_path / "poses", n=9)
    options = ("poses", "--frames", "10", "--shard-size", "2")
    assert run(*options, "--out", "one").exit_code == 0
    words = ["import", *options, "--out", "two", "--workers", "2"]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert Dataset.open("one").digest == Dataset.open("two").digest
    assert "already complete" in run(*options, "--out", "one").output
    with monkeypatch.context() as interrupted:
        interrupted.setattr("skelpipe.prepare.run.assemble", interrupt)
        assert run(*options, "--out", "three").exit_code == 130
    assert not (tmp_path / "three/dataset.json").exists()
    assert run(*options, "--out", "three").exit_code == 0
    assert Dataset.open("three").digest == Dataset.open("two").digest
    result = run("poses", "--frames", "12", "--shard-size", "2", "--out", "two")
    assert result.exit_code == 2
    assert "holds a dataset with other settings" in result.output


def test_other_labels_are_another_dataset(run, tmp_path) -> None:
    stgcn(tmp_path / "poses", n=3)
    assert run("poses", "--out", "ds").exit_code == 0
    (tmp_path / "poses/train_label.pkl").write_bytes(pickle.dumps((["a", "b", "c"], [0, 1, 1])))
    result = run("poses", "--out", "ds")
    assert result.exit_code == 2
    assert "with other settings" in result.output


def test_other_labels_in_metadata_are_another_dataset(run, tmp_path) -> None:
    (tmp_path / "gym").mkdir()
    for name in "ab":
        np.save(tmp_path / f"gym/{name}.npy", np.random.default_rng(0).normal(size=(8, 25, 3)))
    options = ("gym", "--subset", "train", "--layout", "kinect-v2-25", "--out", "ds")
    for labels in ("xy", "yx"):
        rows = "".join(f"{name}.npy,{label}\n" for name, label in zip("ab", labels, strict=True))
        (tmp_path / "gym/metadata.csv").write_text(f"file_name,label\n{rows}")
        result = run(*options)
        assert result.exit_code == (0 if labels == "xy" else 2), result.output
    assert "the raw files have changed since" in result.output


def test_damaged_recordings_stop_or_are_listed(run, tmp_path) -> None:
    array = stgcn(tmp_path / "poses", n=3)
    array[1, 0, 4, 5, 1] = np.inf
    np.save(tmp_path / "poses/train_data.npy", array)
    result = run("poses", "--out", "ds")
    assert result.exit_code == 1
    assert "poses/train_data.npy: data[1]: frame 5, body 2, joint 6: " in result.output
    assert run("poses", "--out", "ds", "--on-error", "skip").exit_code == 0
    assert Dataset.open("ds").count("train") == 2


def test_a_dry_run_writes_nothing(run, tmp_path) -> None:
    stgcn(tmp_path / "poses")
    result = run("poses", "--out", "ds", "--dry-run")
    assert result.exit_code == 0
    assert "6 training and 0 test clips" in result.output
    assert not (tmp_path / "ds").exists()


def test_json_is_one_object(run, tmp_path) -> None:
    stgcn(tmp_path / "poses")
    report = json.loads(run("poses", "--out", "ds", "--json").stdout)
    assert report["train"] == 6


def test_the_help_lists_every_format() -> None:
    option = next(each for each in main.commands["import"].params if each.name == "format_name")
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(IMPORT_FORMATS)


def test_wrong_words_are_usage(run, tmp_path) -> None:
    stgcn(tmp_path / "poses")
    for words, said in (
        (("--axes", "N,T,V"), "T, V and C are expected"),
        (("--axes", "N,T,V,C,Q"), "T, V and C are expected"),
        (("--channels", "x,depth"), "--channels: there is no channel 'depth'"),
        (("--layout", "coco"), "coco"),
    ):
        result = run("poses", "--out", "ds", *words)
        assert (result.exit_code, said in result.output) == (2, True), result.output


@pytest.mark.parametrize(("suffix", "strict"), [(".npz", "true"), (".npz", "false"), (".csv", "true")])
def test_prepare_says_what_to_type_for_a_file_of_many_recordings(tmp_path, monkeypatch, suffix, strict) -> None:
    """Whether or not its suffix is that of a recording, and whether or not its name may be another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    ctrgcn(tmp_path / "raw/NTU60_CS.npz")
    (tmp_path / "my.yaml").write_text(
        "name: my\nreader: npy\nlayout: kinect-v2-25\nname_pattern: 'p(?P<subject>\\d+)_a(?P<action>\\d+)'\n"
        f"suffix: {suffix}\nstrict_names: {strict}\nclasses: [a, b]\n"
        "splits: {xsub: {field: subject, train: [1]}}\n"
    )
    words = ["prepare", "--dataset", "my.yaml", "--split", "xsub", "--raw", "raw", "--out", "ds", "--workers", "1"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert (
        "(CTR-GCN's x_train and y_train in one .npz): skelpipe import raw/NTU60_CS.npz --out DS" in result.output
    )
    assert not (tmp_path / "ds").exists()


def test_recordings_without_labels(run, tmp_path) -> None:
    annotations = [
        {"frame_dir": f"v.{n}", "total_frames": 8, "keypoint": np.random.default_rng(n).normal(size=(1, 8, 25, 3))}
        for n in range(3)
    ]
    split = {"train": ["v.0", "v.1"], "test": ["v.2"]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    result = run("a.pkl", "--out", "ds")
    assert result.exit_code == 0, result.output
    dataset = Dataset.open("ds")
    assert not dataset.labelled
    assert dataset.ids("test") == ["v%2E2"]  # a dot would end WebDataset's key
    annotations[0]["label"] = 0
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    result = run("a.pkl", "--out", "some")
    assert result.exit_code == 1
    assert "a.pkl: annotations[1]: v.1: it has no label, and others have" in result.output
    assert run("a.pkl", "--out", "some", "--on-error", "skip").exit_code == 0
    assert Dataset.open("some").count("train") == 1


@pytest.mark.parametrize("profile", ["crosclr", "stored"])
def test_joints_that_were_not_found_are_interpolated(run, tmp_path, profile: str) -> None:
    pose = np.random.default_rng(0).uniform(100, 900, (1, 1, 17, 2))
    keypoint = np.repeat(pose, 8, axis=1).astype(np.float32) + np.arange(8)[None, :, None, None] * [2, 4]
    score = np.full((1, 8, 17), 0.5, np.float32)
    keypoint[0, 3, 6] = score[0, 3, 6] = 0
    one = {"frame_dir": "a", "label": 0, "keypoint": keypoint, "keypoint_score": score}
    (tmp_path / "poses.pkl").write_bytes(pickle.dumps({"split": {"train": ["a"]}, "annotations": [one]}))
    result = run("poses.pkl", "--out", "ds", "--frames", 8, "--profile", profile)
    assert result.exit_code == 0, result.output
    (clip,) = clips("ds").values()
    steps = np.diff(clip[:2, :, 6, 0], axis=1) - np.diff(clip[:2, :, 5, 0], axis=1)
    assert np.abs(steps).max() < 0.01 * np.abs(clip[:2]).max()
    assert clip[3, 3, 6, 0] == 0


def test_a_missing_value_of_npy_files(run, tmp_path) -> None:
    (tmp_path / "raw" / "train").mkdir(parents=True)
    for n in range(2):
        array = np.random.default_rng(n).uniform(1, 2, (8, 1, 25, 3))
        array[4, 0, 7] = -9
        np.save(tmp_path / "raw" / "train" / f"r{n}.npy", array)
    said = ("raw", "--out", "ds", "--frames", 8, "--layout", "kinect-v2-25", "--profile", "stored")
    result = run(*said, "--missing-value", -9)
    assert result.exit_code == 1
    assert "--missing-joints" in result.output
    result = run(*said, "--missing-value", -9, "--missing-joints", "interpolated", "--overwrite")
    assert result.exit_code == 0, result.output
    for clip in clips("ds").values():
        np.testing.assert_allclose(clip[:, 4, 7], (clip[:, 3, 7] + clip[:, 5, 7]) / 2, rtol=1e-6)
