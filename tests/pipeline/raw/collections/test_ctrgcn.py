"""CTR-GCN's .npz: arrays found, checked against what the format says, and read as recordings."""

from pathlib import Path

import numpy as np
import pytest

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.collections.contents import Contents, Request
from skelpipe.raw.collections.ctrgcn import index_ctrgcn, read_ctrgcn
from skelpipe.raw.collections.formats import find_contents
from skelpipe.raw.form import Form
from skelpipe.raw.source import find_raw_files
from skelpipe.skeleton import layout


def write(folder: Path, name: str = "NTU60_CS.npz", width: int = 150, **other: np.ndarray | None) -> dict:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 12, width)).astype(np.float32)
    x[:, 9:] = 0
    arrays = {
        "x_train": x,
        "y_train": np.eye(5)[[0, 4, 2]],
        "x_test": x[:1] + 1,
        "y_test": np.eye(5)[[3]],
        **other,
    }
    np.savez(folder / name, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


def found(folder: Path, **wishes: object) -> Contents:
    return index_ctrgcn(Request(find_raw_files([folder]), **wishes))  # type: ignore[arg-type]


def test_two_bodies_of_25_joints_one_after_the_other(tmp_path) -> None:
    arrays = write(tmp_path)
    format_, contents = find_contents(Request(find_raw_files([tmp_path])), None)
    assert format_.name == "ctrgcn-npz"
    assert [(entry.id, entry.subset, entry.label) for entry in contents.entries] == [
        ("train_0", "train", 0),
        ("train_1", "train", 4),
        ("train_2", "train", 2),
        ("test_0", "test", 3),
    ]
    assert (contents.joints, contents.bodies, contents.class_count, contents.all_classes) == (25, 2, 5, True)
    assert (contents.split, contents.made_by, contents.padded, contents.frames) == ("xsub", "ctrgcn", True, 12)
    recording = read_ctrgcn(contents.entries[1].file, Form(layout("kinect-v2-25"), 2))
    assert recording.counts.tolist() == [2] * 9
    frame, body, joint = 3, 1, 7
    place = body * 75 + joint * 3
    np.testing.assert_array_equal(
        recording.xyz[2 * frame + body, joint], arrays["x_train"][1, frame, place : place + 3].astype(float)
    )


def test_a_missing_second_body_is_absent(tmp_path) -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 150)).astype(np.float32)
    x[0, :, 75:] = 0
    x[0, 1, :75] = 0
    write(tmp_path, x_train=x, y_train=np.array([1]), x_test=None, y_test=None)
    recording = read_ctrgcn(found(tmp_path).entries[0].file, Form(layout("kinect-v2-25"), 2))
    assert recording.counts.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("name", "split"), [("NTU60_CV", "xview"), ("NTU120_CSub", "xsub"), ("NTU120_CSet", "xset")]
)
def test_the_name_says_the_split(tmp_path, name: str, split: str) -> None:
    write(tmp_path, f"{name}.npz")
    assert found(tmp_path).split == split


def test_whole_numbers_as_labels(tmp_path) -> None:
    write(tmp_path, y_train=np.array([7, 0, 3]), y_test=np.array([1], np.uint8))
    contents = found(tmp_path)
    assert [entry.label for entry in contents.entries] == [7, 0, 3, 1]
    assert (contents.class_count, contents.all_classes) == (8, False)


def test_relatives_with_other_joints(tmp_path) -> None:
    write(tmp_path, "ucla.npz", width=60)
    contents = found(tmp_path)
    assert (contents.joints, contents.bodies) == (20, 1)
    assert len(contents.layouts) > 1  # the SDK's order, or MSR's: the user says which
    (tmp_path / "ucla.npz").unlink()
    write(tmp_path, "coco.npz", width=51)
    with pytest.raises(UsageError, match=r"51 numbers per frame: .*--layout"):
        found(tmp_path)
    contents = found(tmp_path, layout="coco-17", joints=17)
    assert (contents.joints, contents.bodies, contents.layouts) == (17, 1, ("coco-17",))
    with pytest.raises(UsageError, match="51 numbers per frame are not bodies of 25 joints"):
        found(tmp_path, layout="kinect-v2-25", joints=25)


def test_compressed_arrays_are_read(tmp_path) -> None:
    arrays = write(tmp_path)
    np.savez_compressed(tmp_path / "NTU60_CS.npz", **arrays)
    recording = read_ctrgcn(found(tmp_path).entries[0].file, Form(layout("kinect-v2-25"), 2))
    np.testing.assert_array_equal(recording.xyz[0].ravel(), arrays["x_train"][0, 0, :75].astype(float))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"y_train": None}, "there is no y_train for x_train"),
        ({"y_train": np.eye(5)[[0, 1]]}, "3 samples, y_train has 2 labels"),
        ({"y_train": np.ones((3, 5))}, "y_train: row 0 is not one-hot"),
        ({"y_train": np.array(["a", "b", "c"])}, "labels are expected to be numbers"),
        ({"x_train": np.ones((3, 12, 2, 25, 3))}, r"floats \[samples,frames,numbers\] are expected"),
        ({"x_train": np.full((3, 12, 150), "x")}, r"floats \[samples,frames,numbers\] are expected"),
        ({"x_test": np.ones((1, 13, 150))}, "differ in shape"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, other: dict, said: str) -> None:
    write(tmp_path, **other)
    with pytest.raises(RawError, match=said):
        found(tmp_path)


def test_arrays_of_other_axes_are_declared(tmp_path) -> None:
    x = np.random.default_rng(0).normal(size=(3, 12, 17, 2)).astype(np.float32)
    write(tmp_path, x_train=x, x_test=x[:1])
    contents = found(tmp_path, axes=("N", "T", "V", "C"))
    assert (contents.joints, contents.bodies, contents.made_by) == (17, 1, "")
    assert "coco-17" in contents.layouts
    recording = read_ctrgcn(contents.entries[1].file, Form(layout("coco-17"), 1, axes=contents.axes))
    np.testing.assert_array_equal(recording.xyz[..., :2], x[1].astype(float))
    with pytest.raises(UsageError, match="the shape .* is not N,T,M,V,C"):
        found(tmp_path, axes=("N", "T", "M", "V", "C"))
    write(tmp_path, x_train=np.ones((3, 12, 17, 4)), x_test=np.ones((1, 12, 17, 4)))
    with pytest.raises(UsageError, match="a joint has 4 numbers as N,T,V,C: .*--channels"):
        found(tmp_path, axes=("N", "T", "V", "C"))


def test_one_file_at_a_time(tmp_path) -> None:
    write(tmp_path)
    write(tmp_path, "NTU60_CV.npz")
    with pytest.raises(UsageError, match="is imported at a time, found 2"):
        found(tmp_path)
