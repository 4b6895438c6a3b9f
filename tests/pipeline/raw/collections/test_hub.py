"""Folders of one .npy per recording."""

import numpy as np
import pytest

from skelpipe.errors import UsageError
from skelpipe.raw.collections.contents import Contents, Request
from skelpipe.raw.collections.formats import find_contents
from skelpipe.raw.source import find_raw_files


def write(root, shape=(20, 17, 3)) -> None:
    for name in ("train/squat/a", "train/lunge/b", "test/squat/c"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / f"{name}.npy", np.ones(shape))


def found(root, **wishes) -> Contents:
    format_, contents = find_contents(Request(find_raw_files([root]), **wishes), None)
    assert format_.name == "npy-folders"
    return contents


def test_each_file_is_a_recording(tmp_path) -> None:
    write(tmp_path)
    contents = found(tmp_path)
    assert contents.reader == "npy"
    assert [entry.file.item for entry in contents.entries] == [None] * 3
    assert (contents.joints, contents.bodies, contents.classes) == (17, 1, ("lunge", "squat"))
    assert set(contents.layouts) >= {"coco-17", "h36m-17"}


def test_axes_and_channels_are_declared(tmp_path) -> None:
    write(tmp_path, (2, 20, 33, 4))
    with pytest.raises(UsageError, match=r"a joint has 4 numbers, shape \[2, 20, 33, 4\].*--channels x,y,z,score"):
        found(tmp_path)
    contents = found(tmp_path, axes=("M", "T", "V", "C"), channels=("x", "y", "z", "score"))
    assert (contents.joints, contents.bodies, contents.layouts) == (33, 2, ("mediapipe-33",))
    assert contents.channels == ("x", "y", "z", "score")
    with pytest.raises(UsageError, match="declare the order"):
        found(tmp_path, axes=("T", "V", "C"))


def test_pixels(tmp_path) -> None:
    write(tmp_path, (20, 17, 2))
    assert found(tmp_path).units == "pixels"
