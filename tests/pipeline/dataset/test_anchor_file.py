"""Anchors: what numpy wrote is read, and what a file says of itself is compared before anything is made of it."""

import io
import tracemalloc

import numpy as np
import pytest

from skelpipe.dataset.anchor_file import most_anchor_bytes, read_anchor
from skelpipe.errors import DatasetError

SHAPE = (3, 4, 5, 2)


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_it_reads_what_numpy_wrote(dtype: str, order: str) -> None:
    array = np.random.default_rng(1).normal(size=SHAPE).astype(dtype, order=order)
    content = saved(array)
    assert len(content) <= most_anchor_bytes(SHAPE)
    found = read_anchor(content, SHAPE, "ds/anchors/joint.npy")
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def header(shape: str, descr: str = "<f4") -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (saved(np.ones(SHAPE, np.float32))[:-1], "floats of .* are expected"),
        (saved(np.ones(SHAPE, np.float32)) + b"x", "floats of .* are expected"),
        (saved(np.ones(SHAPE, np.int32)), "int32, floats"),
        (saved(np.ones((3, 4), np.float32)), r"shape \(3, 4\), the card says"),
        (header("(1000000, 1000000, 1000000)"), "the card says"),
        (header("(" + "9" * 5000 + ",)"), "cannot be read"),
        (header("[" * 5000), "cannot be read"),
        (header(str(SHAPE), "O"), "floats of"),
        (header("(-1,)"), "the card says"),
    ],
)
def test_anything_else_is_refused_in_a_line(content: bytes, message: str) -> None:
    tracemalloc.start()
    with pytest.raises(DatasetError, match=message) as caught:
        read_anchor(content, SHAPE, "ds/anchors/joint.npy")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert str(caught.value).startswith("ds/anchors/joint.npy: ")
    assert str(caught.value).isprintable()
