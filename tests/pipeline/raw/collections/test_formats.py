"""Which format some files are of: proven by their contents, or refused with what to say."""

import pickle

import numpy as np
import pytest

from skelpipe.errors import RawError, SkelpipeError, UsageError
from skelpipe.raw.collections.contents import Request
from skelpipe.raw.collections.formats import IMPORT_FORMATS, find_contents, import_hint
from skelpipe.raw.source import RawFile, find_raw_files


def request(folder) -> Request:
    return Request(find_raw_files([folder]))


def test_files_of_no_format(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    np.save(tmp_path / "weights.npy", np.zeros(3))
    with pytest.raises(UsageError, match="no file of a known format is found. Known are ctrgcn-npz") as caught:
        find_contents(request(tmp_path), None)
    assert all(name in str(caught.value) for name in IMPORT_FORMATS)


@pytest.mark.parametrize("format_name", [None, *IMPORT_FORMATS])
def test_an_empty_folder(tmp_path, format_name: str | None) -> None:
    with pytest.raises(UsageError, match="there is no file in the folder"):
        find_contents(request(tmp_path), format_name)


@pytest.mark.parametrize("format_name", [name for name, each in IMPORT_FORMATS.items() if each.read is not None])
def test_a_named_format_without_its_files(tmp_path, format_name: str) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(SkelpipeError):
        find_contents(request(tmp_path), format_name)


@pytest.mark.parametrize("name", ["NTU60_CS.npz.zip", "train_data.npy.gz"])
def test_packed_files_are_to_be_unpacked(tmp_path, name: str) -> None:
    (tmp_path / name).write_bytes(b"packed")
    wanted = Request([RawFile(name, str(tmp_path / name), 6)])
    with pytest.raises(UsageError, match=f"{name}: is packed: .* unpack it first"):
        find_contents(wanted, None)


def test_files_of_two_formats_have_to_be_told_apart(tmp_path) -> None:
    array = np.ones((2, 3, 10, 25, 2), np.float32)
    for name in ("train_data", "train_position"):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "train_label.npy", np.array([0, 1]))
    with pytest.raises(UsageError, match="several formats: .*--format stgcn-npy or crosclr-npy"):
        find_contents(request(tmp_path), None)
    assert find_contents(request(tmp_path), "crosclr-npy")[1].made_by == "crosclr"
    assert find_contents(request(tmp_path), "stgcn-npy")[1].made_by == ""


def test_a_hostile_pickle_beside_an_array_is_refused(tmp_path) -> None:
    np.save(tmp_path / "train_data.npy", np.ones((1, 3, 10, 25, 2), np.float32))
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(RawError, match=r"train_label.pkl: asks for builtins.print"):
        find_contents(request(tmp_path), None)


def test_a_hint_for_files_that_hold_many_recordings(tmp_path) -> None:
    np.savez(tmp_path / "NTU60_CS.npz", x_train=np.ones((1, 9, 150)), y_train=np.array([0]))
    np.save(tmp_path / "train_data.npy", np.ones((1, 3, 10, 25, 2), np.float32))
    np.save(tmp_path / "p1_a2.npy", np.ones((10, 25, 3)))
    np.savez(tmp_path / "p1_a2.npz", poses=np.ones((10, 25, 3)))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "gym.pkl").write_bytes(pickle.dumps({"annotations": [{"frame_dir": "a"}]}))
    for name, said in (
        ("NTU60_CS.npz", "CTR-GCN's"),
        ("train_data.npy", "st-gcn's"),
        ("gym.pkl", "a pickle of pyskl"),
        ("p1_a2.npy", ""),
        ("p1_a2.npz", ""),
        ("cut.npz", ""),
        ("none.npy", ""),
    ):
        hint = import_hint(str(tmp_path / name))
        assert hint.endswith(f": skelpipe import {tmp_path / name} --out DS") if said else hint == ""
        assert said in hint


def test_a_damaged_pickle_is_called_so(tmp_path) -> None:
    whole = pickle.dumps([{"x": np.zeros((2, 3))}])
    (tmp_path / "poses.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RawError, match=r"poses\.pkl: .*pickle"):
        find_contents(Request(find_raw_files([tmp_path])), None)


@pytest.mark.parametrize("name", ["val_data_bone", "train_data_joint_motion", "train_bone", "val_data_motion"])
def test_bones_and_motion_alone_are_refused_with_a_reason(tmp_path, name: str) -> None:
    np.save(tmp_path / f"{name}.npy", np.ones((2, 3, 10, 25, 2), np.float32))
    (tmp_path / "val_label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, 1])))
    with pytest.raises(UsageError, match=f"{name}.npy: holds bones or motion, not joints"):
        find_contents(Request(find_raw_files([tmp_path])), None)
