"""Arrays mapped from .npy and .npz files against numpy's own reading, and damaged files."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.raw import mapped_arrays
from skelpipe.raw.mapped_arrays import check_npz, is_npy, map_npy, map_npz

RNG = np.random.default_rng(0)
ARRAYS = {
    "floats": RNG.normal(size=(5, 3, 4)).astype(np.float32),
    "columns": np.asfortranarray(RNG.normal(size=(4, 6))),
    "swapped": np.arange(6, dtype=">i2"),
    "empty": np.zeros((0, 7)),
    "scalar": np.array(3.5),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_npy(tmp_path, name: str) -> None:
    np.save(tmp_path / "a.npy", ARRAYS[name])
    read = map_npy(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(read, ARRAYS[name])
    assert read.dtype == ARRAYS[name].dtype
    assert is_npy(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    check_npz(str(tmp_path / "a.npz"))
    read = map_npz(str(tmp_path / "a.npz"))
    assert set(read) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)


def test_arrays_are_mapped_and_changed_files_mapped_again(tmp_path) -> None:
    path = str(tmp_path / "a.npz")
    np.savez(path, a=np.arange(1000))
    first = map_npz(path)["a"]
    assert not first.flags.owndata
    assert not first.flags.writeable
    Path(path).unlink()
    np.savez(path, a=np.arange(1000) + 1)
    assert map_npz(path)["a"][0] == 1
    assert first[0] == 0


def test_large_compressed_arrays_are_refused_with_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(mapped_arrays, "MOST_INFLATED", 1000)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1000))
    with pytest.raises(
        RawError, match=r"a.npz: x: is compressed and has 8,128 bytes: .* save it once by numpy.savez"
    ):
        map_npz(str(tmp_path / "a.npz"))


def test_damaged_npy(tmp_path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, ARRAYS["floats"])
    whole = path.read_bytes()
    for content, said in (
        (b"", "the file is empty"),
        (whole[:-1], "240 bytes are expected .*found 239 .cut off in download"),
        (whole + b"x", "240 bytes are expected .*found 241"),
        (whole[:40], "no .npy array"),
        (whole.replace(b"<f4", b"|O8"), "no .npy array|Python objects"),
        (whole.replace(b"(5,", b"(-5"), "no .npy array|bytes are expected"),
        (b"\x93NUMPY\x09\x00" + whole[8:], "no .npy array"),
    ):
        path.unlink()
        path.write_bytes(content)
        with pytest.raises(RawError, match=f"a.npy: {said}"):
            map_npy(str(path))
    with pytest.raises(RawError, match="b.npy: cannot be read: No such file"):
        map_npy(str(tmp_path / "b.npy"))
    assert not is_npy(str(tmp_path / "b.npy"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_cut_of_an_npz_is_an_error(tmp_path, save) -> None:
    path = tmp_path / "a.npz"
    save(path, a=RNG.normal(size=20))
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.unlink()
        path.write_bytes(whole[:cut])
        with pytest.raises(RawError, match="a.npz: "):
            map_npz(str(path))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_changed_byte_of_an_array_is_found(tmp_path, save) -> None:
    path = tmp_path / "a.npz"
    save(path, a=RNG.normal(size=2000))
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(RawError, match=r"a.npz"):
        check_npz(str(path))


def test_pickled_and_encrypted_members(tmp_path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([{}], object))
    with pytest.raises(RawError, match="a.npz: a: the array holds Python objects"):
        map_npz(str(path))
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no array")
        info = zipfile.ZipInfo("a.npy")
        archive.writestr(info, b"x")
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = content.rindex(magic)
        content[at + offset] |= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(RawError, match="a.npz: a: is encrypted"):
        map_npz(str(path))
