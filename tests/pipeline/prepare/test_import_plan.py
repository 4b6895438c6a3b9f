"""From files of other programs to manifest, plan and options: names, classes, profile, and what is refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from skelpipe.errors import UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare.import_plan import Import, Wishes, plan_import


def stgcn(folder: Path, names: list[str], labels: list[int], frames: int = 20, name: str = "train_data") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(0).normal(size=(len(names), 3, frames, 25, 2)).astype(np.float32)
    np.save(folder / f"{name}.npy", array)
    (folder / f"{name.partition('_')[0]}_label.pkl").write_bytes(pickle.dumps((names, labels)))


def planned(path: Path, **wishes: object) -> Import:
    return plan_import([str(path)], Wishes(**wishes), {}, skip_bad=False)  # type: ignore[arg-type]


def test_names_prove_ntu(tmp_path) -> None:
    stgcn(tmp_path / "xview", ["S001C002P003R001A005.skeleton", "S017C003P001R002A060.skeleton"], [4, 59])
    found = planned(tmp_path / "xview")
    manifest = found.manifest
    assert (manifest.name, found.options.split) == ("ntu60", "xview")
    assert manifest.classes == load_manifest("ntu60").classes
    assert manifest.splits["xview"].published == load_manifest("ntu60").splits["xview"].published
    assert [sample.id for sample in found.plan.samples] == ["S001C002P003R001A005", "S017C003P001R002A060"]
    fields = found.plan.samples[1].fields
    assert (fields["subject"], fields["camera"], fields["setup"]) == (1, 3, 17)


@pytest.mark.parametrize(
    ("name", "label", "dataset"),
    [
        ("S018C001P042R001A061", 60, "ntu120"),
        ("S001C001P001R001A061", 60, "ntu120"),
        ("S001C001P001R001A002", 7, ""),
    ],
)
def test_other_names(tmp_path, name: str, label: int, dataset: str) -> None:
    """NTU-120's, and names whose class is not the label: a dataset of one's own."""
    stgcn(tmp_path / "mine", [f"{name}.skeleton"], [label])
    manifest = planned(tmp_path / "mine").manifest
    assert manifest.name == (dataset or "mine")
    if not dataset:
        assert manifest.classes == tuple(f"class {n}" for n in range(8))


@pytest.mark.parametrize(
    ("classes", "name", "dataset"), [(60, "a.npz", "ntu60"), (120, "a.npz", "ntu120"), (4, "NTU60.npz", "NTU60")]
)
def test_the_number_of_classes_proves_ntu(tmp_path, classes: int, name: str, dataset: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 8, 150))
    np.savez(tmp_path / name, x_train=x, y_train=np.eye(classes)[[0, 3]])
    found = planned(tmp_path / name)
    assert found.manifest.name == dataset
    assert len(found.manifest.classes) == classes


def test_names_of_classes_from_a_file(tmp_path) -> None:
    stgcn(tmp_path / "mine", ["a", "b"], [0, 2])
    path = tmp_path / "classes.txt"
    path.write_text("sit\nstand\nrun\nwalk\n", "utf-8")
    assert planned(tmp_path / "mine", classes=str(path)).manifest.classes == ("sit", "stand", "run", "walk")
    for text, said in (
        ("sit\nstand\n", "2 names, .* has 3 classes"),
        ("sit\nsit\nrun\n", "'sit' stands there twice"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=said):
            planned(tmp_path / "mine", classes=str(path))
    with pytest.raises(UsageError, match="none.txt: cannot be read"):
        planned(tmp_path / "mine", classes=str(tmp_path / "none.txt"))


def test_the_name_of_the_dataset(tmp_path) -> None:
    stgcn(tmp_path / "my-gym/xsub", ["a"], [0])
    assert planned(tmp_path / "my-gym/xsub").manifest.name == "my-gym"
    assert planned(tmp_path / "my-gym/xsub/train_data.npy").manifest.name == "my-gym"
    assert planned(tmp_path / "my-gym/xsub", name="poses").manifest.name == "poses"


def position(folder: Path) -> Path:
    folder.mkdir()
    np.save(folder / "train_position.npy", np.random.default_rng(0).normal(size=(2, 3, 50, 25, 2)))
    np.save(folder / "train_label.npy", np.array([0, 1]))
    return folder


def test_clips_of_crosclr_keep_their_profile_and_frames(tmp_path) -> None:
    folder = position(tmp_path / "frame50")
    found = planned(folder)
    assert (found.options.profile, found.options.frames, found.manifest.made_by) == ("crosclr", 50, "crosclr")
    assert not found.manifest.padded
    resized = planned(folder, profile="stored", frames=64)
    assert (resized.options.profile, resized.options.frames, resized.manifest.made_by) == ("stored", 64, "")
    with pytest.raises(UsageError, match="made by profile crosclr with 50 frames: leave out --frames 64"):
        planned(folder, frames=64)
    with pytest.raises(UsageError, match="which profile ctrgcn cannot undo: say --profile crosclr or stored"):
        planned(folder, profile="ctrgcn")


def test_profiles_of_recordings(tmp_path) -> None:
    stgcn(tmp_path / "mine", ["a"], [0], frames=30)
    for wishes, expected in (
        ({}, ("crosclr", 64, "", True)),
        ({"frames": 30}, ("crosclr", 30, "", True)),
        ({"profile": "ctrgcn"}, ("ctrgcn", 64, "", True)),
        ({"profile": "stored"}, ("stored", 30, "", False)),  # as they are in the file, zeros at the end included
        ({"profile": "stored", "frames": 64}, ("stored", 64, "", True)),
    ):
        found = planned(tmp_path / "mine", **wishes)
        manifest, options = found.manifest, found.options
        assert (options.profile, options.frames, manifest.made_by, manifest.padded) == expected


def test_profiles_of_ctrgcn_arrays(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.ones((1, 300, 150)), y_train=np.array([0]))
    for wishes, expected in (
        ({}, ("ctrgcn", 64, "ctrgcn", True)),
        ({"profile": "crosclr", "frames": 50}, ("crosclr", 50, "", True)),
        ({"profile": "stored"}, ("stored", 300, "", False)),
    ):
        found = planned(tmp_path / "a.npz", **wishes)
        manifest, options = found.manifest, found.options
        assert (options.profile, options.frames, manifest.made_by, manifest.padded) == expected


def test_a_name_that_stands_for_two_recordings(tmp_path) -> None:
    stgcn(tmp_path / "mine", ["a", "b"], [0, 1])
    stgcn(tmp_path / "mine", ["c", "a"], [0, 1], name="val_data")
    with pytest.raises(UsageError, match=r"val_data.npy: data\[1\]: the name 'a' is already that of another"):
        planned(tmp_path / "mine")


def test_a_layout_is_chosen_or_defined(tmp_path) -> None:
    np.savez(tmp_path / "ucla.npz", x_train=np.ones((1, 9, 60)), y_train=np.array([0]))
    with pytest.raises(UsageError, match="20 joints per body, .*--layout kinect-v1-20 or msr-action3d-20"):
        planned(tmp_path / "ucla.npz")
    assert planned(tmp_path / "ucla.npz", layout="kinect-v1-20").manifest.layout.name == "kinect-v1-20"
    (tmp_path / "stick.yaml").write_text(
        "joints: [hip, chest, left hand, right hand, head]\ncentre: chest\n"
        "shoulders: {left: left hand, right: right hand}\n"
        "bones: {hip: chest, left hand: chest, right hand: chest, head: chest}\n"
        "mirror: [[left hand, right hand]]\nparts: {trunk: [hip, chest, head], arms: [left hand, right hand]}\n"
        "levels: {}\n"
    )
    found = planned(tmp_path / "ucla.npz", layout=str(tmp_path / "stick.yaml"))
    assert (len(found.manifest.layout), found.manifest.bodies) == (5, 4)


def test_paths_that_are_not_there(tmp_path) -> None:
    with pytest.raises(UsageError, match="there is no such file or folder"):
        planned(tmp_path / "nothing")
    with pytest.raises(UsageError, match="is fetched before it is planned"):
        plan_import(["https://example.org/NTU60_CS.npz"], Wishes(), {}, skip_bad=False)


def pyskl(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    one = {"frame_dir": "a", "label": 0, "keypoint": rng.uniform(1, 900, (1, 8, 17, 2))}
    (folder / "poses.pkl").write_bytes(
        pickle.dumps({"split": {"train": ["a", "b"]}, "annotations": [one, {**one, "frame_dir": "b"}]})
    )
    return folder


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"channels": ("x", "y", "z")}, "--channels x,y,z: keypoint has 2 numbers"),
        ({"axes": tuple("MTVC")}, "--axes: a pickle of pyskl .* order of its own"),
        ({"layout": "kinect-v2-25"}, "17 joints, layout kinect-v2-25 has 25"),
        ({"image_size": (1920, 1080)}, "--image-size: .* no fractions"),
        ({"subset": "test"}, "--subset test: the files say themselves"),
        ({"label_column": "action"}, "--label action: there is no metadata"),
    ],
)
def test_words_without_a_use_are_refused(tmp_path, wishes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        planned(pyskl(tmp_path), **wishes)


def test_words_that_count(tmp_path) -> None:
    assert planned(pyskl(tmp_path)).manifest.y_down
    assert not planned(tmp_path, y_down=False).manifest.y_down
    assert planned(tmp_path, missing_value=-1.0).manifest.missing_value == -1
    stgcn(tmp_path / "arrays", ["a", "b"], [0, 1])
    assert planned(tmp_path / "arrays", y_down=True).manifest.y_down


def test_classes_without_a_clip_are_counted(tmp_path) -> None:
    stgcn(tmp_path / "arrays", ["a", "b", "c"], [0, 7, 14])
    assert any("12 of 15 classes have no clip" in note for note in planned(tmp_path / "arrays").notes)
