"""The reader of .npy recordings: arrays saved by numpy are read back, damage is refused, nothing is unpickled."""

import io
import math
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.npy import read_npy
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import parse_layout

V = 5
HAND = parse_layout(
    {
        **{"name": "hand", "joints": list("abcde"), "centre": "a", "shoulders": {"left": "b", "right": "c"}},
        **{"bones": dict.fromkeys("bcde", "a"), "mirror": [["b", "c"]]},
        **{"parts": {"one": ["a", "b", "c"], "two": ["d", "e"]}},
    },
    "hand",
)
ONE = Form(HAND, bodies=4)
MANY = Form(HAND, bodies=4, axes=tuple("TMVC"))  # for arrays of fewer frames than bodies or as many as joints


def saved(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def with_header(header: str, content: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header) + 1)
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode("latin1") + b"\n" + content


def read(content: bytes, name: str = "a.npy", form: Form = ONE) -> Recording:
    return read_npy(np.frombuffer(content + b"\n", np.uint8), name, form)


def random_array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def read_plainly(array: np.ndarray) -> tuple[list[int], list[int], list[Any]]:
    """Counts, ids and positions of [T,M,V,C], body by body."""
    counts, ids, positions = [], [], []
    for bodies in array.tolist():
        padded = [[(*joint, 0.0)[:3] for joint in body] for body in bodies]
        flat = [[value for joint in body for value in joint] for body in bodies]
        absent = [all(value == 0 for value in body) or all(math.isnan(value) for value in body) for body in flat]
        counts.append(max((m + 1 for m in range(len(bodies)) if not absent[m]), default=0))
        for m in range(counts[-1]):
            ids.append(m)
            positions.append([[0.0] * 3] * V if absent[m] else [list(joint) for joint in padded[m]])
    return counts, ids, positions


def check(recording: Recording, array: np.ndarray) -> None:
    counts, ids, positions = read_plainly(array)
    assert recording.counts.tolist() == counts
    assert recording.ids.tolist() == ids
    assert recording.xyz.tolist() == positions
    assert (recording.counts.dtype, recording.ids.dtype, recording.xyz.dtype) == (np.int32, np.int64, np.float64)
    assert recording.xyz.shape == (len(ids), V, 3)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f4", "<f2", "<i2", ">i8", "|u1"])
@pytest.mark.parametrize("axes", [2, 3])
def test_what_numpy_saves_is_read(version: tuple[int, int], dtype: str, axes: int) -> None:
    array = (20 + 5 * random_array(7, 2, V, axes)).astype(dtype)
    check(read(saved(array, version), form=MANY), array)
    check(read(saved(array[:, 0], version)), array[:, :1])
    check(read(saved(np.asfortranarray(array), version), form=MANY), array)


KINDS = st.sampled_from(["moves", "zero", "nan"])
PRESENCE = st.integers(1, 4).flatmap(lambda m: st.lists(st.lists(KINDS, min_size=m, max_size=m), min_size=1))


@given(
    st.integers(1, 4).flatmap(lambda m: st.lists(st.lists(KINDS, min_size=m, max_size=m), min_size=1, max_size=6))
)
def test_bodies_that_come_and_go_keep_their_slots(kinds: list[list[str]]) -> None:
    array = random_array(len(kinds), len(kinds[0]), V, 3)
    for place, kind in np.ndenumerate(np.array(kinds)):
        array[place] *= {"moves": 1, "zero": 0, "nan": np.nan}[kind]
    check(read(saved(array), form=MANY), array)


def test_only_the_byte_of_the_caller_is_removed() -> None:
    """Data may also end in bytes that are line ends."""
    array = np.full((1, V, 2), 0x0A0A, np.uint16)
    check(read(saved(array)), array[:, None])


def broken(index: tuple[int, ...], value: float, *shape: int) -> bytes:
    array = random_array(*shape)
    array[index] = value
    return saved(array)


HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}}}"
WHOLE = saved(random_array(4, V, 3))
DAMAGES = {
    "nothing": (b"", r"^a\.npy: the file is empty$"),
    "text": (b"0.1 0.2 0.3\n", r"^a\.npy: no \.npy file, or one that is damaged: "),
    "an archive": (b"PK\x03\x04" + bytes(200), r"^a\.npy: no \.npy or \.npz file"),
    "a magic alone": (b"\x93NUMPY", r"^a\.npy: no \.npy file"),
    "an unknown version": (
        with_header(HEADER.format("'<f8'", (1, V, 3)), version=4),
        r"its version \(4, 0\) is unknown$",
    ),
    "a header cut off": (WHOLE[:60], r"^a\.npy: no \.npy file"),
    "a header that runs code": (with_header("__import__('os').abort()"), r"^a\.npy: no \.npy file"),
    "brackets left open": (with_header("{'descr': ((((("), r"^a\.npy: no \.npy file"),
    "a header too long": (with_header(" " * 60000), r"^a\.npy: no \.npy file"),
    "cut off": (
        WHOLE[:-1],
        r"^a\.npy: 480 bytes are expected for float64 of shape \[4, 5, 3\], found 479 \(cut off in download\?\)$",
    ),
    "bytes left over": (WHOLE + b"!", r"^a\.npy: 480 bytes are expected .* found 481$"),
    "a shape beyond all memory": (
        with_header(HEADER.format("'<f8'", (10**15, V, 3))),
        r"^a\.npy: 120000000000000000 bytes are expected",
    ),
    "a shape beyond 64 bits": (with_header(HEADER.format("'<f8'", (0, 10**30, 3))), r"^a\.npy: "),
    "a negative shape": (
        with_header(HEADER.format("'<f8'", (-1, -V, 3)), bytes(120)),
        r"^a\.npy: 120 bytes",
    ),
    "seventy axes": (with_header(HEADER.format("'<f8'", (1,) * 70), bytes(8)), r"^a\.npy: no \.npy file"),
    "one number": (saved(np.array(1.0)), r"^a\.npy: an array \[frames,joints,2 or 3\] .* found the shape \[\]$"),
    "two axes": (saved(random_array(4, 15)), r"found the shape \[4, 15\]$"),
    "six axes": (saved(random_array(1, 1, 1, 4, V, 3)), r"found the shape \[1, 1, 1, 4, 5, 3\]$"),
    "four values a joint": (
        saved(random_array(4, V, 4)),
        r"found the shape \[4, 5, 4\]; .* channels: \[x, y, z, score\]$",
    ),
    "another number of joints": (
        saved(random_array(4, 6, 3)),
        r"5 joints are expected, found 6, shape \[4, 6, 3\]$",
    ),
    "no frames": (saved(random_array(0, V, 3)), r"^a\.npy: the array is empty, shape \[0, 5, 3\]$"),
    "no bodies": (saved(random_array(3, 0, V, 3)), r"^a\.npy: the array is empty"),
    "complex numbers": (
        saved(random_array(3, V, 3) * 1j),
        r"^a\.npy: .* floats or integers .*, found complex128$",
    ),
    "truths": (saved(random_array(3, V, 3) > 0), r"found bool$"),
    "words": (saved(np.full((3, V, 3), "1.5")), r"found <U3$"),
    "fields": (
        saved(np.zeros((3, V, 3), [("x", "f4")])),
        r"floats or integers is expected, found \[\('x'",
    ),
    "infinity": (broken((0, 0, 0), -np.inf, 4, V, 2), r"^a\.npy: frame 1, body 1, joint 1: .* not finite$"),
    "a body of infinity": (broken((1,), np.inf, 4, V, 2), r"^a\.npy: frame 2, body 1, joint 1: .* not finite$"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_named(case: str) -> None:
    content, message = DAMAGES[case]
    with pytest.raises(RawError, match=message):
        read(content)


class Trap:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    array = np.empty((1, V, 3), object)
    array[:] = Trap(tmp_path / "unpickled")
    content = saved(array)
    with pytest.raises(RawError, match="holds Python objects, which are not loaded"):
        read(content)
    assert not (tmp_path / "unpickled").exists()
    np.load(io.BytesIO(content), allow_pickle=True)
    assert (tmp_path / "unpickled").exists()  # so the trap works


@given(st.data())
def test_any_bytes_are_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 127))] = data.draw(st.integers(0, 255))
    try:
        got = read(bytes(content))
    except RawError:
        return
    array = np.load(io.BytesIO(content), allow_pickle=False).astype(float)
    if np.isnan(array).any():
        return  # a joint that was not found
    check(got, array if array.ndim == 4 else array[:, None])


def zipped(compress: bool = False, **arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("compress", [False, True])
def test_an_npz_file_of_one_array_or_of_a_named_one_is_read(compress: bool) -> None:
    array = random_array(7, 2, V, 3)
    check(read(zipped(compress, poses=array), form=MANY), array)
    several = zipped(compress, poses=array, fps=np.array(30))
    check(read(several, form=replace(MANY, array="poses")), array)
    with pytest.raises(RawError, match=r"^a.npy: holds 2 arrays: name one in the manifest as array: fps, poses$"):
        read(several, form=MANY)
    with pytest.raises(RawError, match=r"^a.npy: has no array 'pose'; it has: fps, poses$"):
        read(several, form=replace(MANY, array="pose"))


def test_objects_in_an_npz_file_are_never_unpickled() -> None:
    array = np.empty((1, V, 3), object)
    array[:] = Trap(Path("never"))
    with pytest.raises(RawError, match="holds Python objects, which are not loaded"):
        read(zipped(poses=array))


@pytest.mark.parametrize("cut", [30, 200, -30])
def test_a_damaged_npz_file_is_refused(cut: int) -> None:
    with pytest.raises(RawError, match=r"^a.npy: no \.npy or \.npz file, or one that is damaged"):
        read(zipped(compress=True, poses=random_array(7, V, 3))[:cut])
