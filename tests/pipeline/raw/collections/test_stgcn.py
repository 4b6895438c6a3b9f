"""Arrays [N,C,T,V,M] beside their labels: found, checked, and read as recordings."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.collections.contents import Request
from skelpipe.raw.collections.formats import find_contents
from skelpipe.raw.collections.stgcn import index_stgcn, read_array
from skelpipe.raw.form import Form
from skelpipe.raw.source import find_raw_files
from skelpipe.skeleton import layout

KINECT = Form(layout("kinect-v2-25"), 2)


def write(folder: Path, name: str, array: np.ndarray, labels: object, label_name: str = "") -> None:
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{name}.npy", array)
    path = folder / (label_name or f"{name.partition('_')[0]}_label.pkl")
    if path.suffix == ".npy":
        np.save(path, labels)
    else:
        path.write_bytes(pickle.dumps(labels))


def arrays(n: int, frames: int = 20, joints: int = 25, bodies: int = 2, seed: int = 0) -> np.ndarray:
    """Return clips of which the last five frames are padding; the second body of the first clip is absent."""
    array = np.random.default_rng(seed).normal(size=(n, 3, frames, joints, bodies)).astype(np.float32)
    array[:, :, -5:] = 0
    array[0, ..., 1:] = 0
    return array


def found(folder: Path, **wishes: object):
    return find_contents(Request(find_raw_files([folder]), **wishes), None)  # type: ignore[arg-type]


def test_train_and_val_with_names(tmp_path) -> None:
    train, val = arrays(3), arrays(2, seed=1)
    write(tmp_path / "xview", "train_data", train, (["S001C002P001R001A001.skeleton", "b", "c"], [0, 4, 2]))
    write(tmp_path / "xview", "val_data", val, [("d", "e"), [1, 1]])
    format_, contents = found(tmp_path)
    assert format_.name == "stgcn-npy"
    assert [(entry.id, entry.subset, entry.label) for entry in contents.entries] == [
        ("S001C002P001R001A001", "train", 0),
        ("b", "train", 4),
        ("c", "train", 2),
        ("d", "test", 1),
        ("e", "test", 1),
    ]
    assert (contents.joints, contents.bodies, contents.class_count, contents.split) == (25, 2, 5, "xview")
    assert (contents.frames, contents.padded, contents.made_by) == (20, True, "")
    one = read_array(contents.entries[0].file, KINECT)
    np.testing.assert_array_equal(one.counts, np.ones(15))
    np.testing.assert_array_equal(one.xyz, train[0, :, :15, :, 0].transpose(1, 2, 0).astype(float))
    two = read_array(contents.entries[4].file, KINECT)
    np.testing.assert_array_equal(two.counts, np.full(15, 2))
    np.testing.assert_array_equal(two.xyz[1::2], val[1, :, :15, :, 1].transpose(1, 2, 0).astype(float))
    whole = read_array(contents.entries[0].file, Form(layout("kinect-v2-25"), 2, padded=False))
    assert whole.frames == 20


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_labels_in_any_protocol_and_container(tmp_path, protocol: int) -> None:
    np.save(tmp_path / "train_data_joint.npy", arrays(2))
    for labels in ((["a", "b"], [0, 3]), [np.array(["a", "b"]), np.array([0, 3])], (("a", "b"), (0, 3))):
        (tmp_path / "train_label.pkl").write_bytes(pickle.dumps(labels, protocol))
        _, contents = found(tmp_path)
        assert [(entry.id, entry.label) for entry in contents.entries] == [("a", 0), ("b", 3)]


def test_labels_without_names(tmp_path) -> None:
    for name, labels in (("train_label.npy", np.array([[1], [2]])), ("train_label.pkl", [1, 2])):
        write(tmp_path, "train_data", arrays(2), labels, name)
        _, contents = found(tmp_path)
        assert [(entry.id, entry.label) for entry in contents.entries] == [("train_0", 1), ("train_1", 2)]
        (tmp_path / name).unlink()


def test_positions_are_clips_of_crosclr_and_motion_is_left_out(tmp_path) -> None:
    write(tmp_path, "train_position", arrays(2, frames=50), np.array([[0], [1]]), "train_label.npy")
    np.save(tmp_path / "train_motion.npy", arrays(2, frames=50))
    format_, contents = found(tmp_path)
    assert (format_.name, contents.made_by, contents.frames, contents.padded) == (
        "crosclr-npy",
        "crosclr",
        50,
        False,
    )
    assert len(contents.entries) == 2
    assert "train_motion.npy: left out" in contents.notes[0]


@pytest.mark.parametrize("name", ["train_data_bone", "train_data_joint_motion", "val_data_bone_motion"])
def test_bones_and_motion_are_never_taken_for_joints(tmp_path, name: str) -> None:
    write(tmp_path, name, arrays(2), ([], []))
    with pytest.raises(UsageError, match="holds bones or motion, not joints"):
        find_contents(Request(find_raw_files([tmp_path])), "stgcn-npy")


def test_kinetics_skeleton_has_scores(tmp_path) -> None:
    array = np.zeros((2, 3, 10, 18, 2), np.float32)
    array[:, :2, :8] = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 2, 8, 18, 2))
    array[:, 2, :8] = 0.75
    write(tmp_path, "val_data", array, (["v1", "v2"], [3, 399]))
    _, contents = found(tmp_path)
    assert contents.channels == ("x", "y", "score")
    assert contents.layouts == ("openpose-18",)
    form = Form(layout("openpose-18"), 2, contents.channels)
    recording = read_array(contents.entries[1].file, form)
    np.testing.assert_array_equal(recording.xyz[0, :, :2], array[1, :2, 0, :, 0].T.astype(float))
    assert not recording.xyz[..., 2].any()
    assert recording.scores is not None
    assert set(recording.scores.ravel().tolist()) == {0.75}


def test_other_axes_are_declared(tmp_path) -> None:
    array = np.random.default_rng(0).normal(size=(2, 9, 25, 3)).astype(np.float32)
    write(tmp_path, "train_data", array, [0, 1])
    with pytest.raises(UsageError, match=r"axes N,C,T,V,M are expected, found the shape \[2, 9, 25, 3\].*--axes"):
        found(tmp_path)
    _, contents = found(tmp_path, axes=("N", "T", "V", "C"))
    form = Form(layout("kinect-v2-25"), 1, axes=contents.axes)
    np.testing.assert_array_equal(read_array(contents.entries[1].file, form).xyz, array[1].astype(float))


def test_names_of_machine_learning(tmp_path) -> None:
    array = np.random.default_rng(0).normal(size=(2, 9, 25, 3)).astype(np.float32)
    for subset in ("train", "test"):
        np.save(tmp_path / f"X_{subset}.npy", array)
        np.save(tmp_path / f"y_{subset}.npy", np.array([0, 1]))
    _, contents = found(tmp_path, axes=("N", "T", "V", "C"))
    labels = {entry.id: (entry.subset, entry.label) for entry in contents.entries}
    assert labels == {
        "train_0": ("train", 0),
        "train_1": ("train", 1),
        "test_0": ("test", 0),
        "test_1": ("test", 1),
    }


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((2, 20, 25, 3, 2), r"C is 20"),
        ((2, 3, 20, 2, 25), r"25 bodies in 20 frames|V is 2"),
        ((2, 3, 20, 23, 2), r"V is 23"),
        ((2, 3, 2, 25, 5), r"5 bodies in 2 frames"),
    ],
)
def test_other_shapes_are_refused(tmp_path, shape: tuple[int, ...], said: str) -> None:
    write(tmp_path, "train_data", np.ones(shape, np.float32), ([], []))
    with pytest.raises(UsageError, match=said):
        found(tmp_path)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ((["a"], [0]), "1 labels, train_data.npy has 2 samples"),
        ((["a"], [0, 1]), "1 names"),
        (([0, 1], ["a", "b"]), "the first of a pair: names are expected, which are texts"),
        ((["a", "b"], [0, -1]), "sample 1 has the label -1"),
        ((["a", "b"], [0, 0.5]), "the label of sample 1 is no whole number: 0.5"),
        ({"a": 0}, "names and labels are expected"),
        ((["a", "b"], [[0], [1, 2]]), "names and labels are expected"),
        (([["a"], ["b", "c"]], [0, 1]), "the first of a pair: names are expected"),
        (("ab", [0, 1]), "the first of a pair: a list of names is expected"),
    ],
)
def test_damaged_labels(tmp_path, labels: object, said: str) -> None:
    write(tmp_path, "train_data", arrays(2), labels)
    with pytest.raises(RawError, match=said):
        found(tmp_path)


def test_what_the_user_has_to_say(tmp_path) -> None:
    np.save(tmp_path / "train_data.npy", arrays(2))
    with pytest.raises(UsageError, match=r"there is no train_label.pkl or train_label.npy beside it"):
        found(tmp_path)
    (tmp_path / "train_data.npy").rename(tmp_path / "data.npy")
    with pytest.raises(UsageError, match="neither train nor val nor test: say with --subset"):
        found(tmp_path)
    (tmp_path / "label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, 1])))
    _, contents = found(tmp_path, subset="test")
    assert {entry.subset for entry in contents.entries} == {"test"}
    write(tmp_path / "more", "test_data", arrays(2), [0, 1])
    with pytest.raises(UsageError, match="the test subset is already"):
        found(tmp_path, subset="test")


def test_subsets_that_differ_in_shape(tmp_path) -> None:
    write(tmp_path, "train_data", arrays(2), [0, 1])
    write(tmp_path, "val_data", arrays(2, frames=30), [0, 1])
    with pytest.raises(RawError, match="differ in shape"):
        found(tmp_path)


def test_an_infinite_value_names_its_place(tmp_path) -> None:
    array = arrays(2)
    array[1, 0, 3, 7, 1] = np.inf
    write(tmp_path, "train_data", array, [0, 1])
    _, contents = found(tmp_path)
    with pytest.raises(RawError, match=r"train_data.npy: data\[1\]: frame 4, body 2, joint 8: .*not finite"):
        read_array(contents.entries[1].file, KINECT)


def test_lists_that_unfold_are_refused_at_once(tmp_path) -> None:
    nested: list[object] = [0]
    for _ in range(27):
        nested = [nested, nested]
    write(tmp_path, "train_data", arrays(2), (["a", "b"], nested))
    with pytest.raises(RawError, match="names and labels are expected"):
        index_stgcn(Request(find_raw_files([tmp_path])))


def test_labels_as_texts_of_digits(tmp_path) -> None:
    write(tmp_path, "train_data", arrays(2), (["a", "b"], ["3", "10"]))
    assert [entry.label for entry in index_stgcn(Request(find_raw_files([tmp_path]))).entries] == [3, 10]
